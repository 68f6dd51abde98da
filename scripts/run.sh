#!/usr/bin/env bash
# Install what is missing, run both services with their Dapr sidecars, and say where.
#   scripts/run.sh [--direct]     --direct: without sidecars, for machines without Dapr
# Ctrl-C stops everything. Data is kept in ./data, or in DACA_DATA_DIR.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh
ensure_python

arguments=("$@")
if [[ " $* " != *" --direct "* && " $* " != *" -h"* && " $* " != *" --help "* ]]; then
  daprd=$(scripts/install_dapr.sh daprd) ||
    die "no Dapr, no sidecars; 'scripts/run.sh --direct' runs the same services without them"
  arguments+=(--daprd "$daprd")
fi
exec .venv/bin/python -m scripts.run_stack ${arguments[@]+"${arguments[@]}"}
