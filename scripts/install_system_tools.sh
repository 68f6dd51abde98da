#!/usr/bin/env bash
# Print the paths of programs that PyPI doesn't have, after installing missing ones from Debian:
#   scripts/install_system_tools.sh [chromium|faketime|java|pgbouncer]...
# chromium is for the browser tests (its headless shell halves their CPU time),
# faketime (a library, installed together with iptables) for the fault tests, java (17 or newer) for
# Zipkin, and pgbouncer for the tests of PostgreSQL behind it.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh
PATH=$PATH:/usr/sbin:/sbin # Debian has iptables there, which not every PATH includes

find_tool() {
  local file
  case "$1" in
    chromium)
      for file in chromium-headless-shell chromium chromium-browser google-chrome; do
        if command -v "$file"; then return; fi
      done
      return 1
      ;;
    faketime)
      command -v iptables >/dev/null || return 1
      for file in /usr/lib/*/faketime/libfaketime.so.1 /usr/lib/faketime/libfaketime.so.1; do
        if [[ -e $file ]]; then echo "$file"; return; fi
      done
      return 1
      ;;
    java) [[ $(java -version 2>&1) =~ \"([0-9]+) && ${BASH_REMATCH[1]} -ge 17 ]] && command -v java ;;
    pgbouncer) command -v pgbouncer ;;
    *) die "unknown program '$1': chromium, faketime, java or pgbouncer" ;;
  esac
}

packages_of() {
  case "$1" in
    chromium) echo chromium-headless-shell fonts-dejavu-core ;;
    faketime) echo faketime iptables ;;
    java) echo default-jre-headless ;;
    pgbouncer) echo pgbouncer ;;
  esac
}

missing=() packages=()
for tool in "$@"; do
  find_tool "$tool" >/dev/null && continue
  missing+=("$tool")
  read -ra more <<<"$(packages_of "$tool")"
  packages+=("${more[@]}")
done
if [[ ${#missing[@]} -gt 0 ]]; then
  say "missing: ${missing[*]}; to be installed, as root: apt-get install ${packages[*]}"
  command -v apt-get >/dev/null || die "there is no apt-get here: install them in your system's own way"
  sudo=()
  [[ $(id -u) == 0 ]] || sudo=(sudo)
  ${sudo[@]+"${sudo[@]}"} apt-get update -qq >&2
  ${sudo[@]+"${sudo[@]}"} apt-get install -qq --yes --no-install-recommends "${packages[@]}" >&2 ||
    die "they could not be installed (see above); where Chromium is a snap, Google Chrome does as well"
fi
for tool in "$@"; do
  find_tool "$tool" || die "$tool is installed, but not found; is an older one before it on PATH?"
done
