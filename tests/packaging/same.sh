#!/usr/bin/env bash
# Builds what is handed out twice, in two folders with nothing of each other, and compares the bytes. It needs two builds' time.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ -z "$(git status --porcelain)" ] || { echo "same: commit first; what is built is the commit" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
# Of other names and lengths, so that a path in a file shows.
for folder in one/certkit another/folder/of/sources; do
  git clone -q . "$work/$folder"
  CARGO_TARGET_DIR=$work/$folder.target "$work/$folder/tests/packaging/dist.sh"
done
diff -r "$work/one/certkit.target/dist" "$work/another/folder/of/sources.target/dist"
echo "same: two builds of $(git rev-parse --short HEAD) are the same bytes"
