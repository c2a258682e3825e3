#!/usr/bin/env bash
# Tries what `make dist` made, on this machine, as root: the binary in an empty root; the package installed, upgraded,
# purged. Nothing of it is left, and nothing in /etc/kubernetes is touched. With --package it is the package alone.
set -euo pipefail

only=
[ "${1:-}" != --package ] || { only=package; shift; }
dist=${1:?usage: tests/packaging/try.sh [--package] FOLDER, as target/dist}
dist=$(cd "$dist" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "package: $*" >&2
  exit 1
}

(cd "$dist" && sha256sum --quiet -c SHA256SUMS) || fail "the sums are not those of the files"
if [ -z "$only" ]; then
  binary=$(find "$dist" -name 'certkit-*-linux')
  sbom=$(find "$dist" -name '*.cdx.json')
  grep -q '"bomFormat": *"CycloneDX"' "$sbom" || fail "the SBOM is no CycloneDX"
  grep -q '"name": *"rustls"' "$sbom" || fail "the SBOM does not list what is inside"

  # In a root with nothing else in it.
  mkdir "$work/tree"
  install -m 755 "$binary" "$work/tree/certkit"
  chroot "$work/tree" /certkit init -q --dir /pki --name demo --host cp1=10.0.0.11
  chroot "$work/tree" /certkit verify -q --dir /pki || fail "the binary does not work by itself"
fi
deb=$(find "$dist" -name '*.deb')

! dpkg -s certkit >/dev/null 2>&1 || fail "certkit is installed here already"
before=$(find /etc/kubernetes 2>/dev/null | sort || true)
wants=/etc/systemd/system/timers.target.wants/certkit-check.timer

dpkg -i "$deb" >/dev/null
certkit --version >/dev/null
[ -e /usr/share/man/man1/certkit-rotate.1.gz ] || fail "no manual pages"
[ -e /usr/share/bash-completion/completions/certkit ] || fail "no completions"
[ -L "$wants" ] || fail "the timer is not enabled"
if command -v systemd-analyze >/dev/null; then
  systemd-analyze verify /usr/lib/systemd/system/certkit-check.timer 2>&1 | grep certkit-check && fail "the units are wrong"
fi

# An upgrade keeps the timer as its owner left it.
dpkg-deb -R "$deb" "$work/next"
sed -i 's/^Version: .*/&+1/' "$work/next/DEBIAN/control"
dpkg-deb --root-owner-group -b "$work/next" "$work/next.deb" >/dev/null
systemctl disable certkit-check.timer >/dev/null 2>&1
dpkg -i "$work/next.deb" >/dev/null
[ ! -e "$wants" ] || fail "an upgrade enabled the timer again"

files=$(dpkg -L certkit)
dpkg --purge certkit >/dev/null
while read -r file; do
  [ -d "$file" ] || [ ! -e "$file" ] || fail "purge left $file"
done <<<"$files"
left=$(find /etc/systemd /var/lib/systemd -name '*certkit*' 2>/dev/null || true)
[ -z "$left" ] || fail "purge left $left"
[ "$before" = "$(find /etc/kubernetes 2>/dev/null | sort || true)" ] || fail "/etc/kubernetes changed"
echo "package: ${only:-works alone,} installs, upgrades, purges"
