#!/usr/bin/env bash
# Print the folder with PostgreSQL's initdb and postgres, installing Debian's if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh

find_postgres() {
  local bin
  # Debian's are not on PATH; the newest is the last.
  for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV) ${PATH//:/ }; do
    if [[ -x $bin/initdb && -x $bin/postgres ]]; then
      echo "$bin"
      return
    fi
  done
  return 1
}

if ! find_postgres; then
  sudo=()
  [[ $(id -u) == 0 ]] || sudo=(sudo)
  command -v apt-get >/dev/null ||
    die "the tests need PostgreSQL: install it, or put its initdb and postgres on PATH"
  say "installing postgresql"
  ${sudo[@]+"${sudo[@]}"} apt-get update -qq >&2
  ${sudo[@]+"${sudo[@]}"} apt-get install -qq --yes --no-install-recommends postgresql >&2 ||
    die "postgresql could not be installed (see above)"
  find_postgres
fi
