#!/usr/bin/env bash
# Install what the tests need and run them all; arguments go to pytest.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
ensure_python --extra local
# Our own modules are imported a thousand times: compiled once, they take half a minute less.
unset PYTHONDONTWRITEBYTECODE
# Read from a variable, so that a failed installation ends the script and doesn't skip tests.
programs=$(scripts/install_system_tools.sh chromium faketime pgbouncer java)
{ read -r CHROMIUM; read -r LIBFAKETIME; read -r PGBOUNCER; } <<<"$programs"
programs=$(scripts/install_dapr.sh daprd dapr sentry grpcurl)
{ read -r DAPRD; read -r DAPR_CLI; read -r SENTRY; read -r GRPCURL; } <<<"$programs"
docker info >/dev/null 2>&1 || say "NO DOCKER ENGINE: the tests of the image and of Compose are skipped"
scripts/install_tracing.sh zipkin >/dev/null || say "NO ZIPKIN: its test is skipped"
export DAPRD DAPR_CLI SENTRY GRPCURL CHROMIUM LIBFAKETIME PGBOUNCER
# Four workers even on two cores, as most tests wait more than they compute. They keep the order of
# tests/conftest.py.
exec .venv/bin/python -m pytest -n 4 --dist loadgroup --no-loadscope-reorder "$@"
