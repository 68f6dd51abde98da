# Sourced by the scripts, from the project's root: where tools are cached, and
# how Python and its packages get here.
DACA_CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/daca-chat"
UV_VERSION=0.13.9

say() { printf '%s\n' "daca: $*" >&2; }
die() { say "$*"; exit 1; }
sha256_of() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }

# As release archives name them.
os=$(uname -s | tr '[:upper:]' '[:lower:]')
case "$(uname -m)" in
  x86_64 | amd64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) arch=$(uname -m) ;;
esac

PROGRESS_EVERY_S=10
# Run a long step with its output in a log, and show that it moves: with_progress LOG USUAL_S
# COMMAND... says now and then how long it has taken, and how long it usually does.
with_progress() {
  local log=$1 usual_s=$2 began=$SECONDS next_s=$PROGRESS_EVERY_S child
  shift 2
  "$@" >"$log" 2>&1 &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    if ((SECONDS - began >= next_s)); then
      say "  $((SECONDS - began)) s of about $usual_s s$(last_line "$log")"
      next_s=$((next_s + PROGRESS_EVERY_S))
    fi
    sleep 0.1
  done
  wait "$child"
}
in_folder() { cd "$1" && shift && "$@"; }
last_line() { local line; line=$(tail -n 1 "$1" | cut -c 1-70); [[ -z $line ]] || printf ': %s' "$line"; }

# uv from PATH, from our cache, from PyPI, or from its own installer.
find_uv() {
  local home="$DACA_CACHE/uv/$UV_VERSION"
  if command -v uv; then return; fi
  if [[ ! -x $home/bin/uv ]]; then
    say "installing uv $UV_VERSION into $home"
    if ! { python3 -m venv "$home" && "$home/bin/pip" -q install "uv==$UV_VERSION"; } >&2; then
      rm -rf "$home"
      curl -LsSf "https://astral.sh/uv/$UV_VERSION/install.sh" |
        UV_UNMANAGED_INSTALL="$home/bin" sh >&2 ||
        die "could not install uv: see https://docs.astral.sh/uv/getting-started/installation/"
    fi
  fi
  echo "$home/bin/uv"
}

# .venv with exactly what uv.lock says. Arguments go to `uv sync`.
ensure_python() {
  local uv log
  uv=$(find_uv)
  log=$(mktemp)
  if ! with_progress "$log" 60 "$uv" sync --frozen "$@"; then
    cat "$log" >&2
    die "uv could not install the packages of uv.lock (see above)"
  fi
  rm -f "$log"
}
