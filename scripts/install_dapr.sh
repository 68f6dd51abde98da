#!/usr/bin/env bash
# Print the paths of Dapr's programs, getting what is missing into a per-user cache:
#   scripts/install_dapr.sh [daprd|dapr|sentry|grpcurl]...     (default: daprd dapr)
# Each comes from PATH or ~/.dapr/bin if its version is good, else from the official
# release archive if its SHA-256 is the pinned one, else from a build from Go source.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/env.sh

DAPR_VERSION=1.18.1
CLI_VERSION=1.16.5
GRPCURL_VERSION=1.9.3

# A platform without a pin builds from source.
pin_of() {
  case "$1" in
    daprd-linux-amd64) echo d023c00a5a7a7adc17d43fcf4a2389b6f2ba1d9c3467e94456b74b228e9a8c50 ;;
    dapr-linux-amd64) echo 39fd305d73907ce4ee3f974054b7d6fb0289e1606881962dc1d7cff96a12de8f ;;
    dapr-darwin-amd64) echo b5525bcfaa09ce4c66268dfe4b30f15af515e3345ac76aa86675512f4e0a5111 ;;
    dapr-darwin-arm64) echo 6fb0677161b4f3fec487f5b1dfae4fd6a3ee1138fb1d878cb27682c2b8271fdc ;;
    grpcurl-linux-amd64) echo a926b62a85787ccf73ef8736b3ae554f1242e39d92bb8767a79d6dd23b11d1d5 ;;
  esac
}

github=https://github.com

version_of() {
  case "$1" in
    grpcurl) echo "$GRPCURL_VERSION" ;;
    dapr) echo "$CLI_VERSION" ;;
    *) echo "$DAPR_VERSION" ;;
  esac
}

# Patch releases are interchangeable; newer minors are not what the tests ran with.
is_good() {
  local tool=$1 program=$2 minor ask=--version said
  # It has no such option, but tells its version before it misses the file.
  [[ $tool != sentry ]] || ask=--config=/nonexistent
  minor=$(version_of "$tool" | cut -d. -f1-2)
  [[ -x $program ]] || return 1
  said=$("$program" "$ask" 2>&1 || true)
  grep -qE "(^|[^0-9.])v?${minor//./\\.}\.[0-9]" <<<"$said"
}

archive_url() {
  case "$1" in
    grpcurl) echo "$github/fullstorydev/grpcurl/releases/download/v$GRPCURL_VERSION/grpcurl_${GRPCURL_VERSION}_${os}_x86_64.tar.gz" ;;
    dapr) echo "$github/dapr/cli/releases/download/v$CLI_VERSION/dapr_${os}_$arch.tar.gz" ;;
    *) echo "$github/dapr/dapr/releases/download/v$DAPR_VERSION/$1_${os}_$arch.tar.gz" ;;
  esac
}

download() {
  local tool=$1 into=$2 pin url
  pin=$(pin_of "$tool-$os-$arch")
  [[ -n $pin ]] || return 1
  url=$(archive_url "$tool")
  say "downloading $url"
  curl -fsSL --connect-timeout 10 --max-time 600 -o "$into/archive.tar.gz" "$url" || return 1
  if [[ $(sha256_of "$into/archive.tar.gz") != "$pin" ]]; then
    say "its SHA-256 is not the pinned one: not used"
    return 1
  fi
  tar -xzf "$into/archive.tar.gz" -C "$into" "$tool"
}

# A module of our own that requires theirs: `go install` refuses modules with replacements.
# The checksum database vouches for every module that the build uses.
build() {
  local tool=$1 into=$2 package tags=() ldflags="-s -w"
  command -v go >/dev/null || { say "no Go to build $tool with"; return 1; }
  case "$tool" in
    grpcurl)
      package=github.com/fullstorydev/grpcurl/cmd/grpcurl
      printf '%s\n' 'module local/build' 'go 1.24.0' \
        "require github.com/fullstorydev/grpcurl v$GRPCURL_VERSION" >"$into/go.mod"
      ldflags+=" -X main.version=v$GRPCURL_VERSION"
      ;;
    dapr)
      package=github.com/dapr/cli
      printf '%s\n' 'module local/build' 'go 1.24.9' "require github.com/dapr/cli v$CLI_VERSION" \
        'replace github.com/dapr/durabletask-go => github.com/dapr/durabletask-go v0.10.0' \
        'replace github.com/dapr/components-contrib => github.com/dapr/components-contrib v1.16.1' \
        >"$into/go.mod"
      ldflags+=" -X main.version=$CLI_VERSION"
      ;;
    *)
      package=github.com/dapr/dapr/cmd/$tool
      # The replacements of Dapr's own go.mod, which count in the main module only.
      printf '%s\n' 'module local/build' 'go 1.26.4' "require github.com/dapr/dapr v$DAPR_VERSION" \
        'replace dubbo.apache.org/dubbo-go/v3 => dubbo.apache.org/dubbo-go/v3 v3.0.3-0.20230118042253-4f159a2b38f3' \
        'replace gopkg.in/couchbaselabs/gocbconnstr.v1 => github.com/couchbaselabs/gocbconnstr v1.0.5' \
        'replace github.com/chenzhuoyu/iasm => github.com/chenzhuoyu/iasm v0.9.0' \
        'replace github.com/chzyer/logex => github.com/chzyer/logex v1.2.1' \
        'replace github.com/gobwas/pool => github.com/gobwas/pool v0.2.1' \
        'replace github.com/toolkits/concurrent => github.com/niean/gotools v0.0.0-20151221085310-ff3f51fc5c60' \
        >"$into/go.mod"
      tags=(-tags stablecomponents)
      ldflags+=" -X github.com/dapr/dapr/pkg/buildinfo.version=$DAPR_VERSION"
      ;;
  esac
  say "building $tool $(version_of "$tool") from source (once; 3 to 6 minutes on 2 cores)"
  # -v names each package when it is compiled, which shows that the build moves.
  with_progress "$into/build.log" 300 in_folder "$into" env CGO_ENABLED=0 GOFLAGS='-mod=mod -modcacherw' GOWORK=off \
    go build -v -trimpath ${tags[@]+"${tags[@]}"} -ldflags "$ldflags" -o "$tool" "$package" ||
    { tail -n 15 "$into/build.log" >&2; return 1; }
}

install() {
  local tool=$1 version home candidate into
  version=$(version_of "$tool")
  home="$DACA_CACHE/$tool/$version"
  for candidate in "$(command -v "$tool" || true)" "$HOME/.dapr/bin/$tool" "$home/$tool"; do
    if is_good "$tool" "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  mkdir -p "$home"
  into=$(mktemp -d "$home/.get.XXXXXX")
  # shellcheck disable=SC2064  # the folder is known now
  trap "rm -rf '$into'" EXIT
  if ! download "$tool" "$into" && ! build "$tool" "$into"; then
    die "$tool $version could not be had: neither from its release archive nor from Go source"
  fi
  # A rename is atomic, so a second run beside us finds all of it or nothing.
  mv "$into/$tool" "$home/$tool"
  echo "$home/$tool"
}

[[ $# -gt 0 ]] || set -- daprd dapr
for tool in "$@"; do
  case "$tool" in
    daprd | dapr | sentry | grpcurl) (install "$tool") ;;
    *) die "unknown program '$tool': daprd, dapr, sentry or grpcurl" ;;
  esac
done
