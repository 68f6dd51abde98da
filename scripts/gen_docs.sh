#!/usr/bin/env bash
# Write the tables of docs/configuration.md, and .env.example, from the settings and their
# docstrings. With --check: fail if they are out of date.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
ensure_python --inexact
exec .venv/bin/python -X utf8 -m scripts.docs.configuration "$@"
