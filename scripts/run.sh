#!/usr/bin/env bash
# Install what is missing, run both services with their Dapr sidecars, and say where.
#   scripts/run.sh [--direct | --secure] [--zipkin | --jaeger]
#     --direct: without sidecars, for machines without Dapr
#     --secure: with mTLS and access control between the sidecars, and tokens
#     --zipkin, --jaeger: with one of these beside it, which shows a trace of each chat
# CHAT_MODEL_PROVIDER=local also runs a small language model on this machine.
# Ctrl-C stops everything. Data is kept in ./data, or in DACA_DATA_DIR.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh
case "${CHAT_MODEL_PROVIDER:-}" in
  "") ensure_python ;;
  local) ensure_python --extra local ;;
  *) die "CHAT_MODEL_PROVIDER: may only be 'local', or unset" ;;
esac

arguments=("$@")
if [[ " $* " != *" --direct "* && " $* " != *" -h"* && " $* " != *" --help "* ]]; then
  daprd=$(scripts/install_dapr.sh daprd) ||
    die "no Dapr, no sidecars; 'scripts/run.sh --direct' runs the same services without them"
  arguments+=(--daprd "$daprd")
  if [[ " $* " == *" --secure"* ]]; then
    sentry=$(scripts/install_dapr.sh sentry) || die "no sentry, no certificates, no --secure"
    arguments+=(--sentry "$sentry")
  fi
fi
for viewer in zipkin jaeger; do
  if [[ " $* " == *" --$viewer "* ]]; then
    program=$(scripts/install_tracing.sh "$viewer") || die "no $viewer, no --$viewer"
    arguments+=(--viewer "$program")
  fi
done
exec .venv/bin/python -m scripts.run_stack ${arguments[@]+"${arguments[@]}"}
