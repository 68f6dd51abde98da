#!/usr/bin/env bash
# Install what is missing, do every fault to the system and send it all bad input, at length (some
# twenty minutes), and print the table of what each cost (also in data/faults.md); arguments go
# to pytest instead of the whole folders.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh
ensure_python --extra local
programs=$(scripts/install_dapr.sh daprd)
DAPRD=$(head -n 1 <<<"$programs")
POSTGRES_BIN=$(scripts/install_postgres.sh)
LIBFAKETIME=$(scripts/install_fault_tools.sh)
export DAPRD POSTGRES_BIN LIBFAKETIME
export DACA_FAULTS=full
[[ $# -gt 0 ]] || set -- tests/faults tests/replicas tests/fuzz
exec .venv/bin/python -m pytest "$@"
