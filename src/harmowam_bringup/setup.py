from glob import glob

from setuptools import find_packages, setup

package = "harmowam_bringup"
shared = {folder: glob(f"{folder}/*") for folder in ("launch", "config", "rviz")}

setup(
    name=package,
    version="0.1.0",
    description="Launch files, configurations, the harmowam command, demo, recording, replay and doctor.",
    maintainer="HarmoWAM maintainers",
    maintainer_email="harmowam@example.org",
    license="Apache-2.0",
    packages=find_packages(exclude=["test", "test.*"]),
    package_data={package: ["config/**/*", "weights/**/*.safetensors", "weights/**/*.json", "templates/**/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package}"]),
        (f"share/{package}", ["package.xml"]),
        ("bin", ["bin/harmowam"]),  # on PATH once the workspace is sourced
        *((f"share/{package}/{folder}", files) for folder, files in shared.items() if files),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "harmowam = harmowam_bringup.cli:main",
            "auditor_node = harmowam_bringup.auditor.auditor_node:main",
            "camera_node = harmowam_bringup.cameras.camera_node:main",
            "relay_node = harmowam_bringup.drill.relay_node:main",
            "gripper_node = harmowam_bringup.gripper.gripper_node:main",
            "planner_node = harmowam_bringup.planning.planner_node:main",
            "stand_in_node = harmowam_bringup.faults.stand_in_node:main",
        ]
    },
)
