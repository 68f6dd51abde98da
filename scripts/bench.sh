#!/usr/bin/env bash
# Install what is missing, measure, and write bench/results: scripts/bench.sh [--quick] [NAME]...
# (chats, streams, concurrency, lookups, records, users, memory, replicas, floor; by default
# all of these). scripts/bench.sh versions --against WORKTREE [--direct] [--into FOLDER] compares
# this version with another one, whose worktree has its own .venv.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
ensure_python --extra local
DAPRD=$(scripts/install_dapr.sh daprd)
BENCH_CALLER=
if go=$(find_go); then
  BENCH_CALLER="$DACA_CACHE/bench/caller"
  (cd bench/go && CGO_ENABLED=0 GOWORK=off "$go" build -trimpath -o "$BENCH_CALLER" .)
else
  say "no Go: the experiments lookups and users are left out"
fi
export DAPRD BENCH_CALLER
exec .venv/bin/python -m bench "$@"
