#!/usr/bin/env bash
# Run a command with ROS 2 and the workspace sourced.
source /harmowam/setup.bash
exec "$@"
