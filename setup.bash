# Source me: `source setup.bash` gives this shell the Python environment, ROS 2 and the built workspace (run `make setup` first).
_harmowam_root=$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")" && pwd)

if [ -z "${AMENT_PREFIX_PATH:-}" ] && [ -f /opt/ros/jazzy/setup.bash ]; then  # not by ROS_DISTRO: the official images set it, and source nothing
    source /opt/ros/jazzy/setup.bash
fi
if [ -f "$_harmowam_root/.venv/bin/activate" ]; then
    source "$_harmowam_root/.venv/bin/activate"
    if [ -f "$_harmowam_root/.venv/share/ament_index/resource_index/packages/rclpy" ]; then  # ROS 2 from wheels: the environment is the prefix
        export AMENT_PREFIX_PATH="$_harmowam_root/.venv" CMAKE_PREFIX_PATH="$_harmowam_root/.venv"
        export ROS_DISTRO=jazzy ROS_VERSION=2 RMW_IMPLEMENTATION="${RMW_IMPLEMENTATION:-rmw_fastrtps_cpp}"
    fi
fi
if [ -f "$_harmowam_root/install/local_setup.bash" ]; then
    source "$_harmowam_root/install/local_setup.bash"
fi
unset _harmowam_root
