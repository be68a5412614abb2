#!/usr/bin/env bash
# Lint, types, tests of all packages. Arguments go to pytest.
set -eo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source ./setup.bash

echo "== ruff"
ruff check .
echo "== mypy"
scripts/types.sh
echo "== pytest"
# One thread a library: two cores are soon oversubscribed, and timing tests then fail for no fault of the code.
export OMP_NUM_THREADS=1 LP_NUM_THREADS=1
# Graphs of other users on this network must not be heard. Above 101, DDS ports meet those that Linux hands out.
export ROS_DOMAIN_ID=${ROS_DOMAIN_ID:-$((RANDOM % 101 + 1))} ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
python -m pytest "${@:-src}"
