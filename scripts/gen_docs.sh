#!/usr/bin/env bash
# Write what docs/configuration.md and .env.example say of each setting, from the settings
# themselves. With --check: fail if they say something else.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
ensure_python --inexact
exec .venv/bin/python -X utf8 -m scripts.docs.configuration "$@"
