#!/usr/bin/env bash
# Make this checkout ready to run: system packages, Python environment, robot models, built workspace.
# Every step keeps a stamp of its inputs, so that a second call does nothing.
set -eo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\033[1m[set-up]\033[0m %s\n' "$*"; }
fail() { printf '\033[1;31m[set-up]\033[0m %s\n' "$*" >&2; exit 1; }
fingerprint() { sha256sum "$@" | sha256sum | cut -d' ' -f1; }
is_current() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

mkdir -p .cache
exec 9>.cache/setup.lock
flock 9 || fail "cannot lock .cache/setup.lock"

# 1. System packages
missing=()
for package in $(sed 's/#.*//' apt-packages.txt); do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    install="apt-get install -y --no-install-recommends ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        say "This is not a Debian or Ubuntu system; install the counterparts of: ${missing[*]}"
    elif [ "$(id -u)" = 0 ]; then
        say "Installing system packages: ${missing[*]}"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive $install
    elif sudo -n true 2>/dev/null; then
        say "Installing system packages: ${missing[*]}"
        sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive $install
    else
        fail "System packages are missing; run this, then again: sudo apt-get update && sudo $install"
    fi
fi

# 2. Python environment
requirements=(requirements.txt)
installed_ros() {  # a ROS 2 of its own, that is: not the wheels of some environment
    [ -f /opt/ros/jazzy/setup.bash ] && return
    local prefix
    for prefix in ${AMENT_PREFIX_PATH//:/ }; do
        [ -d "$prefix/share/rclpy" ] && [ ! -f "$prefix/pyvenv.cfg" ] && return
    done
    return 1
}
if installed_ros; then
    venv_options=(--system-site-packages)  # rclpy comes from the installation
else
    venv_options=()
    requirements+=(requirements-ros.txt)
fi
if [ ! -x .venv/bin/python ]; then
    python=${PYTHON:-}
    for candidate in python3.11 python3.12 python3; do
        [ -z "$python" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && python=$candidate
    done
    [ -n "$python" ] || fail "Python 3.11 or 3.12 is needed; install it, or name one: make setup PYTHON=/path/to/python3.11"
    say "Creating .venv with $("$python" -V)"
    "$python" -m venv "${venv_options[@]}" .venv
fi
inputs=$(fingerprint "${requirements[@]}" requirements-assets.txt constraints.txt scripts/patch_ros_wheels.py)
if ! is_current .venv/.requirements "$inputs"; then
    say "Installing the pinned Python packages (minutes, the first time)"
    .venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt $(printf -- '-r %s ' "${requirements[@]}")
    say "Installing the robot models"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps -r requirements-assets.txt
    installed_ros || .venv/bin/python scripts/patch_ros_wheels.py
    echo "$inputs" > .venv/.requirements
fi

# 3. Workspace
build_files=$(find src -name build -prune -o -type f \( -name package.xml -o -name setup.py -o -name setup.cfg -o -name CMakeLists.txt \
    -o -name '*.msg' -o -name '*.srv' -o -name '*.action' \) -print | sort)
shared_files=$(find src/*/{launch,config,rviz,bin} -type f 2>/dev/null | sort)  # linked one by one: a new one needs a build
inputs=$( { fingerprint $build_files colcon.meta; echo "$shared_files"; cat .venv/.requirements; pwd; } | sha256sum | cut -d' ' -f1)
if ! is_current build/.inputs "$inputs"; then
    say "Building the workspace with colcon"
    [ ! -d build ] || find build -xtype l -delete  # links to files that are gone stop setup.py
    (
        source ./setup.bash
        # The wheels' prefix has no local_setup.*, which colcon remarks on each time; the variables are set in setup.bash.
        # As a module: executables then run with this environment's Python, also where colcon itself is the system's.
        python -m colcon build --symlink-install --metas colcon.meta --cmake-args -DPython3_EXECUTABLE="$(command -v python)" \
            2> >(grep -v "doesn't contain any 'local_setup" >&2)
    )
    echo "$inputs" > build/.inputs
fi

# 4. Robot models, decimated once
(
    source ./setup.bash
    python -m harmowam_sim.assets
)

# 5. Engines of the default backend; a node that misses one builds it when it starts
networks=$(find src/harmowam_{core,world_model,experts,gate}/harmowam_* -name '*.py' -o -name '*.safetensors' | sort)
inputs=$(fingerprint requirements.txt $networks)
if ! is_current .cache/engines "$inputs"; then
    say "Building the models' engines (a minute, the first time)"
    if (source ./setup.bash && harmowam engines build --backend openvino); then
        echo "$inputs" > .cache/engines
    else
        say "No engines yet, see above: the nodes will build theirs when they start"
    fi
fi
say "Ready. \`source setup.bash\` gives your shell the harmowam command; \`make demo\` runs the stack."
