#!/usr/bin/env bash
# Install what is missing, run both services with their Dapr sidecars, and say where.
#   scripts/run.sh [--direct | --secure [FOLDER]] [--zipkin | --jaeger] [--run-file FILE]
#     --direct: without sidecars, for machines without Dapr
#     --secure: with mTLS and access control between the sidecars, and tokens
#     --zipkin, --jaeger: with one of these beside it, which shows a trace of each chat
# CHAT_MODEL_PROVIDER=local also runs a small language model on this machine.
# Ctrl-C stops everything. Data is kept in ./data, or in DACA_DATA_DIR.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
# shellcheck disable=SC2119  # no options
ensure_runtime
exec .venv/bin/python -I -X utf8 -m scripts.run_stack "$@"
