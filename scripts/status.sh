#!/usr/bin/env bash
# Print which processes are up, how chat reaches analytics, and how many messages its outbox has.
#   scripts/status.sh [--run-file FILE]     exit code 1 if something is down
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
# shellcheck disable=SC2119  # no options
ensure_runtime
exec .venv/bin/python -I -X utf8 -m scripts.status "$@"
