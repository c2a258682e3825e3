#!/usr/bin/env bash
# What is handed out, into target/dist: a static binary, a Debian package, an SBOM, and their SHA-256 sums. The same
# sources give the same bytes, wherever they lie: paths are mapped, times are the commit's. `same.sh` compares two builds.
#
# CERTKIT_BINARY=FILE packs that program instead of one that is built here, and makes no SBOM: to try the packing alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
home=${CARGO_HOME:-$HOME/.cargo}
triple=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
out=$target/dist

# An archive without its history has the time of its manifest.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
maps=("$PWD=/certkit" "$home=/cargo" "$target=/target")
RUSTFLAGS="-C target-feature=+crt-static$(printf ' --remap-path-prefix=%s' "${maps[@]}")"
CFLAGS="$(printf -- ' -ffile-prefix-map=%s' "${maps[@]}")"
CFLAGS=${CFLAGS# }
export SOURCE_DATE_EPOCH RUSTFLAGS CFLAGS CARGO_INCREMENTAL=0 LC_ALL=C TZ=UTC
umask 022

# Tools are built for this machine, as ever: what has macros of its own cannot be static.
tool() {
  command -v "$1" >/dev/null || env -u RUSTFLAGS -u CFLAGS -u CARGO_TARGET_DIR cargo install "$1" --locked
}

rm -rf "$out"
mkdir -p "$out/units" "$out/man" "$out/completions"

certkit=$target/$triple/release/certkit
if [ -n "${CERTKIT_BINARY:-}" ]; then
  install -D "$CERTKIT_BINARY" "$certkit"
else
  # With a target of its own, these flags are the program's alone and not its build scripts'.
  cargo build --release --locked --target "$triple"
  # A loader is what it would need first.
  ! readelf --program-headers --wide "$certkit" | grep -q INTERP || {
    echo "dist: $certkit needs libraries of the machine it runs on" >&2
    exit 1
  }
fi
name=certkit-$version-${triple%%-*}-linux
install -m 755 "$certkit" "$out/$name"

# What the package holds beside it.
"$certkit" man --output-dir "$out/man"
"$certkit" completions bash >"$out/completions/certkit"
"$certkit" completions zsh >"$out/completions/_certkit"
"$certkit" completions fish >"$out/completions/certkit.fish"
for unit in service timer; do
  "$certkit" template "systemd-$unit" | sed \
    -e 's|/usr/local/bin/certkit|/usr/bin/certkit|' \
    -e '/^# Save as /d' \
    -e '/^Description=/a ConditionPathIsDirectory=/etc/kubernetes' >"$out/units/certkit-check.$unit"
done
gzip -9n "$out"/man/*.1

tool cargo-deb
# cargo-deb names files relative to the manifest: where target is elsewhere, a link leads there.
if [ ! -e target ]; then
  trap 'rm -f target' EXIT
  ln -s "$target" target
fi
env -u RUSTFLAGS cargo deb --no-build --no-strip ${CERTKIT_BINARY:+--fast} --target "$triple" --output "$out/certkit_${version}_$(dpkg --print-architecture).deb"

if [ -z "${CERTKIT_BINARY:-}" ]; then
  tool cargo-cyclonedx
  env -u RUSTFLAGS cargo cyclonedx --format json --target "$triple" --override-filename certkit.cdx
  # It names the folder of the sources, and the package only where that is called otherwise.
  sed -e "s|$PWD|/certkit|g" -e "s|///certkit#$version|///certkit#certkit@$version|g" certkit.cdx.json >"$out/$name.cdx.json"
  rm certkit.cdx.json
fi

rm -r "$out/units" "$out/man" "$out/completions"
(cd "$out" && sha256sum -- certkit* >SHA256SUMS)
cat "$out/SHA256SUMS"
