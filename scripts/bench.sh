#!/usr/bin/env bash
# Install what is missing, measure, and write bench/results: scripts/bench.sh [--quick] [NAME]...
# (chats, streams, concurrency, lookups, records, users, memory, replicas, floor; all of them unless
# named). scripts/bench.sh versions --against WORKTREE [--direct] [--into FOLDER] compares this
# version with another one, whose worktree has its own .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh
ensure_python --extra local
programs=$(scripts/install_dapr.sh daprd)
DAPRD=$(head -n 1 <<<"$programs")
BENCH_CALLER=
if command -v go >/dev/null; then
  BENCH_CALLER="$DACA_CACHE/bench/caller"
  (cd bench/go && CGO_ENABLED=0 GOWORK=off go build -trimpath -o "$BENCH_CALLER" .)
else
  say "no Go: the experiments lookups and users are left out"
fi
POSTGRES_BIN=$(scripts/install_postgres.sh)
export DAPRD BENCH_CALLER POSTGRES_BIN
exec .venv/bin/python -m bench "$@"
