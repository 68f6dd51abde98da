#!/usr/bin/env bash
# Print the path of libfaketime for the fault tests, installing it and iptables if missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh

find_faketime() {
  local file
  for file in /usr/lib/*/faketime/libfaketime.so.1 /usr/lib/faketime/libfaketime.so.1; do
    if [[ -e $file ]]; then echo "$file"; return; fi
  done
  return 1
}

if ! { PATH=$PATH:/usr/sbin command -v iptables >/dev/null && find_faketime; }; then
  sudo=()
  [[ $(id -u) == 0 ]] || sudo=(sudo)
  command -v apt-get >/dev/null ||
    die "the fault tests need libfaketime and iptables: install them"
  say "installing faketime and iptables"
  ${sudo[@]+"${sudo[@]}"} apt-get update -qq >&2
  ${sudo[@]+"${sudo[@]}"} apt-get install -qq --yes --no-install-recommends faketime iptables >&2 ||
    die "faketime or iptables could not be installed (see above)"
  find_faketime
fi
