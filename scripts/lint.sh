#!/usr/bin/env bash
# Check style, types and the contract; change nothing.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")/.."
. scripts/lib/env.sh
ensure_python --inexact

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/lint-imports --no-cache --no-logo
.venv/bin/mypy .
.venv/bin/buf lint
.venv/bin/buf format -d --exit-code
scripts/gen_protos.sh --check
scripts/gen_docs.sh --check
