#!/usr/bin/env bash
# Print the path of a program that shows traces, getting it into a per-user cache if it is missing:
#   scripts/install_tracing.sh zipkin|jaeger
# Zipkin is a jar from Maven Central, and needs Java 17, which is installed with apt-get. Jaeger comes
# from its release archive, or else from a build from Go source. The Go module lacks the UI, so such
# a build serves only the API.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.."
. scripts/lib/env.sh

ZIPKIN_VERSION=3.5.1
ZIPKIN_SHA256=7ac633a6832647e71e50012a5e3e91fbc7054414955261724526030faf271d8d
JAEGER_VERSION=1.76.0 # the module's; as a program it is version 2
JAEGER_PROGRAM_VERSION=2.13.0

get_zipkin() {
  local into=$1 url=https://repo1.maven.org/maven2/io/zipkin/zipkin-server/$ZIPKIN_VERSION
  url+=/zipkin-server-$ZIPKIN_VERSION-exec.jar
  say "downloading $url"
  curl -fsSL --connect-timeout 10 --max-time 600 -o "$into/zipkin" "$url" || return 1
  [[ $(sha256_of "$into/zipkin") == "$ZIPKIN_SHA256" ]] || {
    say "its SHA-256 is not the pinned one: not used"
    return 1
  }
}

download_jaeger() {
  local into=$1 name=jaeger-$JAEGER_PROGRAM_VERSION-$os-$arch sums
  local url=https://github.com/jaegertracing/jaeger/releases/download/v$JAEGER_PROGRAM_VERSION/$name
  say "downloading $url.tar.gz"
  curl -fsSL --connect-timeout 10 --max-time 600 -o "$into/archive.tar.gz" "$url.tar.gz" || return 1
  tar -xzf "$into/archive.tar.gz" -C "$into" --strip-components 1 "$name/jaeger" || return 1
  # Not pinned: the checksum published beside it detects a broken download, but no forged one.
  sums=$(curl -fsSL --connect-timeout 10 --max-time 60 "$url.sha256sum.txt") || return 1
  grep -qe "$(sha256_of "$into/archive.tar.gz")" -e "$(sha256_of "$into/jaeger")" <<<"$sums" ||
    { say "its SHA-256 is not the published one: not used"; return 1; }
}

build_jaeger() {
  local into=$1 go
  go=$(find_go) || return 1
  say "building Jaeger $JAEGER_VERSION from source (once; about 6 minutes on 2 cores), without its UI"
  with_progress "$into/build.log" 360 compile_jaeger "$go" "$into" ||
    { tail -n 15 "$into/build.log" >&2; return 1; }
}

compile_jaeger() {
  local go=$1
  cd "$2"
  printf '%s\n' 'module local/build' 'go 1.24.6' \
    "require github.com/jaegertracing/jaeger v$JAEGER_VERSION" >go.mod
  go_environment "$go" "$2"
  exec "$go" build -v -trimpath -ldflags '-s -w' -o jaeger github.com/jaegertracing/jaeger/cmd/jaeger
}

case "${1:-}" in
  zipkin)
    scripts/install_system_tools.sh java >/dev/null || die "Zipkin needs Java 17 or newer"
    version=$ZIPKIN_VERSION
    ;;
  jaeger) version=$JAEGER_VERSION ;;
  *) die "unknown program '${1:-}': zipkin or jaeger" ;;
esac
home="$DACA_CACHE/$1/$version"
if [[ ! -f $home/$1 ]]; then
  mkdir -p "$home"
  into=$(mktemp -d "$home/.get.XXXXXX")
  trap 'rm -rf "$into"' EXIT
  case "$1" in
    zipkin) get_zipkin "$into" ;;
    jaeger) download_jaeger "$into" || build_jaeger "$into" ;;
  esac || die "$1 $version could not be had"
  # A rename is atomic, so a concurrent run finds the whole program or none.
  mv "$into/$1" "$home/$1"
fi
echo "$home/$1"
