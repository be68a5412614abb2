#!/usr/bin/env bash
# Type-check every package from its sources.
set -eo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
packages=(core world_model experts gate sim training bringup)
MYPYPATH=$(echo src/harmowam_*/ | tr ' ' ':') exec .venv/bin/mypy "${packages[@]/#/-pharmowam_}"
