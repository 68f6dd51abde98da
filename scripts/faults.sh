#!/usr/bin/env bash
# Install what is missing, do every fault to the system and send it all bad input, at length (a
# quarter of an hour), and print the table of
# what each cost (also in data/faults.md); arguments go to pytest instead of the whole folder.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh
ensure_python --extra local
programs=$(scripts/install_dapr.sh daprd)
DAPRD=$(head -n 1 <<<"$programs")
LIBFAKETIME=$(scripts/install_fault_tools.sh)
export DAPRD LIBFAKETIME
export DACA_FAULTS=full
[[ $# -gt 0 ]] || set -- tests/faults tests/fuzz
exec .venv/bin/python -m pytest "$@"
