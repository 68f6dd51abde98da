#!/usr/bin/env bash
# Say what of the stack is up, by which way chat asks analytics, and what waits.
#   scripts/status.sh [--run-file FILE]     exit code 1 if something is down
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh
ensure_python --inexact
exec .venv/bin/python -m scripts.status "$@"
