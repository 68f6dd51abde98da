#!/usr/bin/env bash
# Regenerate generated/ from protos/. With --check: fail if it has drifted.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
[[ -z $* || $* == --check ]] || { echo "usage: scripts/gen_protos.sh [--check]" >&2; exit 2; }
ensure_python --inexact

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# shellcheck disable=SC2046  # no spaces in proto paths
.venv/bin/python -m grpc_tools.protoc -I protos \
  --plugin=protoc-gen-mypy=.venv/bin/protoc-gen-mypy \
  --plugin=protoc-gen-mypy_grpc=.venv/bin/protoc-gen-mypy_grpc \
  --python_out="$out" --grpc_python_out="$out" --mypy_out="quiet:$out" --mypy_grpc_out="quiet:$out" \
  $(find protos -name '*.proto' | sort)

if [[ $# == 0 ]]; then
  # No stub of a removed proto may stay. But if a proto is invalid, all old stubs stay.
  rm -rf generated/daca
  mv "$out/daca" generated/
elif ! diff -r --exclude=__pycache__ generated/daca "$out/daca"; then
  echo "generated/ does not match protos/: run scripts/gen_protos.sh and commit the result" >&2
  exit 1
fi
