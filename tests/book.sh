#!/usr/bin/env bash
# Builds the pages as a site with a search, into target/book: the pages as they are, in the order of the index, docs/README.md, with
# mdBook, which is installed into target/tools once. Then each link within the site is followed.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
mdbook=$target/tools/bin/mdbook
[ -x "$mdbook" ] || cargo install --quiet --locked --root "$target/tools" mdbook

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cp README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md LICENSE "$work/src"
cp -r docs "$work/src/docs"
# What is called README.md is a folder's index.html there.
sed -i -E 's/\]\(((\.\.\/|docs\/)?)README\.md/](\1index.md/g' "$work"/src/*.md "$work"/src/docs/*.md
{
  echo "# Summary"
  echo "[certkit](README.md)"
  echo "[Documentation](docs/README.md)"
  sed -nE 's/^## (.*)/\n# \1\n/p; s/^- \[([^]]+)\]\(([^)#]+\.md)\).*/- [\1](docs\/\2)/p' docs/README.md
  printf '\n# The project\n\n- [Contributing](CONTRIBUTING.md)\n- [Security](SECURITY.md)\n- [Changelog](CHANGELOG.md)\n'
} >"$work/src/SUMMARY.md"
cat >"$work/book.toml" <<'TOML'
[book]
title = "certkit"
language = "en"

[output.html]
no-section-label = true

[output.html.search]
use-boolean-and = true
TOML
"$mdbook" build --dest-dir "$target/book" "$work"

broken=0
while IFS= read -r page; do
  while IFS= read -r link; do
    file=${link%%#*}
    at=$(dirname "$page")/$file
    [ -n "$file" ] || at=$page
    # print.html has all pages in one, whose links it leaves as they are.
    if [ ! -e "$at" ]; then
      echo "book: $page: $link" >&2
      broken=1
    elif [[ $link == *'#'* && $at == *.html ]] && ! grep -q "id=\"${link##*#}\"" "$at"; then
      echo "book: $page: $link: no such heading" >&2
      broken=1
    fi
  done < <(grep -oE '(href|src)="[^"]+"' "$page" | sed -E 's/^[a-z]+="//; s/"$//' | grep -vE '^[a-z]+:|^//|^#$' | sort -u)
done < <(find "$target/book" -name '*.html' ! -name print.html ! -name 404.html ! -name toc.html | sort)
[ "$broken" -eq 0 ]
[ -n "$(find "$target/book" -name 'searchindex*')" ] || { echo "book: it has no search" >&2; exit 1; }
echo "book: $target/book/index.html"
