#!/usr/bin/env bash
# Lint, types, tests of all packages; each runs whatever the others say. Arguments go to pytest.
set -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
source ./setup.bash

failed=0
echo "== ruff"
ruff check . || failed=1
echo "== mypy"
scripts/types.sh || failed=1
echo "== pytest"
# One thread a library: two cores are soon oversubscribed, and timing tests then fail for no fault of the code.
export OMP_NUM_THREADS=1 LP_NUM_THREADS=1
# Graphs of other users on this network must not be heard. Above 101, DDS ports meet those that Linux hands out.
export ROS_DOMAIN_ID=${ROS_DOMAIN_ID:-$((RANDOM % 101 + 1))} ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
python -m pytest "${@:-src}" || failed=1
exit $failed
