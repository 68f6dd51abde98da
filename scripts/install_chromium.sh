#!/usr/bin/env bash
# Print the path of a Chromium for the browser tests, installing Debian's if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh

find_chromium() {
  command -v chromium || command -v chromium-browser || command -v google-chrome
}

if ! find_chromium; then
  sudo=()
  [[ $(id -u) == 0 ]] || sudo=(sudo)
  command -v apt-get >/dev/null ||
    die "the browser tests need Chromium: install it, or put it on PATH as 'chromium'"
  say "installing chromium"
  ${sudo[@]+"${sudo[@]}"} apt-get update -qq >&2
  ${sudo[@]+"${sudo[@]}"} apt-get install -qq --yes --no-install-recommends chromium fonts-dejavu-core >&2 ||
    die "chromium could not be installed (see above)"
  find_chromium
fi
