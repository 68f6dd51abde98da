#!/usr/bin/env bash
# Print a bearer token for a user, made with AUTH_JWT_SECRET; it is good for an hour.
#   scripts/token.sh USER
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
# shellcheck disable=SC2119  # no options
ensure_runtime
exec .venv/bin/python -I -X utf8 -m scripts.make_token "$@"
