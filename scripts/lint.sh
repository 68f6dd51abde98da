#!/usr/bin/env bash
# Check style, types and the contract; change nothing.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
[[ $# == 0 ]] || die "scripts/lint.sh has no options"
ensure_python --inexact

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/lint-imports --no-cache --no-logo
.venv/bin/mypy .
.venv/bin/buf lint
.venv/bin/buf format -d --exit-code
scripts/gen_protos.sh --check
scripts/gen_docs.sh --check

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The contract may only grow: since this branch left main or, on main, since the previous commit.
before=$({ git merge-base HEAD origin/main || git merge-base HEAD main || true; } 2> /dev/null)
if [[ -z $before || $before == "$(git rev-parse HEAD)" ]]; then before=HEAD^; fi
if git rev-parse --quiet --verify "$before^{commit}" > /dev/null; then
  git archive "$before" protos buf.yaml | tar -x -C "$work"
  .venv/bin/buf breaking --against "$work"
else
  say "there is no commit before this one: it is NOT checked whether the contract only grows"
fi

spectral=(npx --yes --package=@stoplight/spectral-cli@6.16.3 spectral)
if "${spectral[@]}" --version > "$work/log" 2>&1; then
  PYTHONPATH=. .venv/bin/python scripts/openapi.py > "$work/openapi.json"
  "${spectral[@]}" lint --ruleset .spectral.yaml --fail-severity warn "$work/openapi.json"
else
  say "Spectral can't be had from npm: the OpenAPI document is NOT checked"
fi
