#!/usr/bin/env bash
# Print the paths of Dapr's programs, getting what is missing into a per-user cache:
#   scripts/install_dapr.sh [daprd|dapr|sentry|grpcurl]...     (default: daprd dapr)
# Each comes from PATH or ~/.dapr/bin if its minor version is ours, else from the official
# release archive if its SHA-256 is the pinned one, else from a build from Go source.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh

DAPR_VERSION=1.18.1
CLI_VERSION=1.16.5
GRPCURL_VERSION=1.9.3

# Each of these checksums is in two public sources, or in Dapr's own .sha256 file. A platform
# without a pin builds from source.
pin_of() {
  case "$1" in
    daprd-linux-amd64) echo d023c00a5a7a7adc17d43fcf4a2389b6f2ba1d9c3467e94456b74b228e9a8c50 ;;
    dapr-linux-amd64) echo 39fd305d73907ce4ee3f974054b7d6fb0289e1606881962dc1d7cff96a12de8f ;;
    dapr-linux-arm64) echo bedba0550afeec47d17926ce7ac0b89187146447b2447c19e62f8696c23b098e ;;
    dapr-darwin-amd64) echo b5525bcfaa09ce4c66268dfe4b30f15af515e3345ac76aa86675512f4e0a5111 ;;
    dapr-darwin-arm64) echo 6fb0677161b4f3fec487f5b1dfae4fd6a3ee1138fb1d878cb27682c2b8271fdc ;;
    grpcurl-linux-amd64) echo a926b62a85787ccf73ef8736b3ae554f1242e39d92bb8767a79d6dd23b11d1d5 ;;
    grpcurl-linux-arm64) echo b20a00c1cb82ab81ec32696766d4076e99b4cb5ca0823a71767ba64dbea0f263 ;;
    grpcurl-darwin-amd64) echo 246a6669e58c282dcaf0e9dcb06dd1c8681833d59df24eb83d3123ec64c2d2e5 ;;
    grpcurl-darwin-arm64) echo d8391485e99a728a3a4e82af3fd621f9fdea0c417a74e5122803ad20b207b623 ;;
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
  # sentry has no --version, but prints its version before it fails, as this file doesn't exist.
  [[ $tool != sentry ]] || ask=--config=/nonexistent
  minor=$(version_of "$tool" | cut -d. -f1-2)
  [[ -x $program ]] || return 1
  said=$("$program" "$ask" 2>&1 || true)
  grep -qE "(^|[^0-9.])v?${minor//./\\.}\.[0-9]" <<<"$said"
}

archive_url() {
  case "$1" in
    grpcurl) echo "$github/fullstorydev/grpcurl/releases/download/v$GRPCURL_VERSION/grpcurl_${GRPCURL_VERSION}_${os/darwin/osx}_${arch/amd64/x86_64}.tar.gz" ;;
    dapr) echo "$github/dapr/cli/releases/download/v$CLI_VERSION/dapr_${os}_$arch.tar.gz" ;;
    *) echo "$github/dapr/dapr/releases/download/v$DAPR_VERSION/$1_${os}_$arch.tar.gz" ;;
  esac
}

download() {
  local tool=$1 into=$2 pin url
  pin=$(pin_of "$tool-$os-$arch")
  if [[ -z $pin ]]; then
    say "no checksum of $tool's release archive for $os-$arch is known here: not downloaded"
    return 1
  fi
  url=$(archive_url "$tool")
  say "downloading $url"
  curl -fsSL --connect-timeout 10 --max-time 600 -o "$into/archive.tar.gz" "$url" || return 1
  if [[ $(sha256_of "$into/archive.tar.gz") != "$pin" ]]; then
    say "its SHA-256 is not the pinned one: not used"
    return 1
  fi
  tar -xzf "$into/archive.tar.gz" -C "$into" "$tool"
}

# Build a module of our own that requires theirs: `go install` refuses modules with replacements.
# The checksum database vouches for every module that the build uses.
build() {
  local tool=$1 into=$2 usual_s=120
  GO=$(find_go) || return 1
  say "building $tool $(version_of "$tool") from Go source, once (minutes; for daprd 2 to 8 on two cores)"
  if [[ $tool == daprd ]]; then
    usual_s=200
    say "meanwhile, in another terminal, 'scripts/run.sh --direct' works at once, without Dapr"
  fi
  with_progress "$into/build.log" "$usual_s" compile "$tool" "$into" ||
    { tail -n 15 "$into/build.log" >&2; return 1; }
}

compile() {
  local tool=$1 package ldflags="-s -w"
  cd "$2"
  go_environment "$GO" "$work"
  case "$tool" in
    grpcurl)
      package=github.com/fullstorydev/grpcurl/cmd/grpcurl
      printf '%s\n' 'module local/build' 'go 1.24.0' \
        "require github.com/fullstorydev/grpcurl v$GRPCURL_VERSION" >go.mod
      ldflags+=" -X main.version=v$GRPCURL_VERSION"
      ;;
    dapr)
      package=github.com/dapr/cli
      printf '%s\n' 'module local/build' 'go 1.24.9' "require github.com/dapr/cli v$CLI_VERSION" \
        'replace github.com/dapr/durabletask-go => github.com/dapr/durabletask-go v0.10.0' \
        'replace github.com/dapr/components-contrib => github.com/dapr/components-contrib v1.16.1' \
        >go.mod
      ldflags+=" -X main.version=$CLI_VERSION"
      ;;
    *)
      package=github.com/dapr/dapr/cmd/$tool
      # The replacements of Dapr's own go.mod: Go heeds only those of the main module.
      printf '%s\n' 'module local/build' 'go 1.26.4' "require github.com/dapr/dapr v$DAPR_VERSION" \
        'replace dubbo.apache.org/dubbo-go/v3 => dubbo.apache.org/dubbo-go/v3 v3.0.3-0.20230118042253-4f159a2b38f3' \
        'replace gopkg.in/couchbaselabs/gocbconnstr.v1 => github.com/couchbaselabs/gocbconnstr v1.0.5' \
        'replace github.com/chenzhuoyu/iasm => github.com/chenzhuoyu/iasm v0.9.0' \
        'replace github.com/chzyer/logex => github.com/chzyer/logex v1.2.1' \
        'replace github.com/gobwas/pool => github.com/gobwas/pool v0.2.1' \
        'replace github.com/toolkits/concurrent => github.com/niean/gotools v0.0.0-20151221085310-ff3f51fc5c60' \
        >go.mod
      ldflags+=" -X github.com/dapr/dapr/pkg/buildinfo.version=$DAPR_VERSION"
      [[ $tool != daprd ]] || leave_out_components || exit 1
      ;;
  esac
  # -v prints each package as it is compiled, which shows the progress.
  exec "$GO" build -v -trimpath -ldflags "$ldflags" -o "$tool" "$package"
}

# Of daprd's hundred components this project uses only name resolution. Without the others, daprd
# is half as large and builds in half the time.
leave_out_components() {
  local module=github.com/dapr/dapr@v$DAPR_VERSION
  "$GO" mod download "$module" &&
    cp -R "$("$GO" list -m -f '{{.Dir}}' "$module")" dapr &&
    chmod -R u+w dapr || return 1
  echo 'replace github.com/dapr/dapr => ./dapr' >>go.mod
  # The other components' files need build tags, which we don't set. This file is for builds without
  # them, and panics: we replace it.
  cat >dapr/cmd/daprd/components/zz_notag.go <<'GO'
package components

import (
	"github.com/dapr/components-contrib/nameresolution/kubernetes"
	"github.com/dapr/components-contrib/nameresolution/mdns"
	"github.com/dapr/dapr/pkg/components/nameresolution"
)

func init() {
	nameresolution.DefaultRegistry.RegisterComponent(kubernetes.NewResolver, "kubernetes")
	nameresolution.DefaultRegistry.RegisterComponent(mdns.NewResolver, "mdns")
}
GO
}

install() {
  local tool=$1 version home candidate others=
  version=$(version_of "$tool")
  home="$DACA_CACHE/$tool/$version"
  for candidate in "$(command -v "$tool" || true)" "$HOME/.dapr/bin/$tool" "$home/$tool"; do
    if is_good "$tool" "$candidate"; then
      echo "$candidate"
      return
    fi
    [[ ! -x $candidate ]] || others+=" $candidate"
  done
  [[ -z $others ]] || say "not used, as not version ${version%.*}:$others"
  # Only now, because the cache may be read-only if everything is installed.
  mkdir -p "$home"
  work=${work:-$(mktemp -d "$DACA_CACHE/get.XXXXXX")}
  mkdir "$work/$tool"
  if ! download "$tool" "$work/$tool" && ! build "$tool" "$work/$tool"; then
    die "$tool $version could not be had: neither from its release archive nor from Go source"
  fi
  # A rename is atomic, so a concurrent run finds the whole program or none.
  mv "$work/$tool/$tool" "$home/$tool"
  echo "$home/$tool"
}

[[ $# -gt 0 ]] || set -- daprd dapr
work=
trap 'rm -rf "$work"' EXIT
for tool in "$@"; do
  case "$tool" in
    daprd | dapr | sentry | grpcurl) install "$tool" ;;
    *) die "unknown program '$tool': daprd, dapr, sentry or grpcurl" ;;
  esac
done
