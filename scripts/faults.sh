#!/usr/bin/env bash
# Install what is missing, run all tests of faults, replicas and bad input at full length (12
# minutes on two idle cores), and print what each fault cost (also in data/faults.md). Arguments go
# to pytest, instead of those tests' folders.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
ensure_python --extra local
LIBFAKETIME=$(scripts/install_system_tools.sh faketime)
DAPRD=$(scripts/install_dapr.sh daprd)
export DAPRD LIBFAKETIME
export DACA_FAULTS=full
[[ $# -gt 0 ]] || set -- tests/faults tests/replicas tests/fuzz
exec .venv/bin/python -m pytest "$@"
