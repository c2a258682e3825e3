#!/usr/bin/env bash
# Installs the programs the tests need, as Debian packages, where they are missing and can be had.
# It never fails: what stays missing is said by name, and the tests that need it say so themselves.
set -uo pipefail

# program:package
needs=(
  etcd:etcd-server
  etcdctl:etcd-client
  openssl:openssl
  script:bsdutils
  strace:strace
  kubectl:kubernetes-client
  promtool:prometheus
  faketime:faketime
  prlimit:util-linux
  setpriv:util-linux
  ip:iproute2
  curl:curl
  sshd:openssh-server
  ssh:openssh-client
  chromium:chromium
  dot:graphviz
  python3:python3-yaml
  keytool:default-jre-headless
  age:age
  zsh:zsh
  fish:fish
)

missing() {
  for need in "${needs[@]}"; do
    command -v "${need%%:*}" >/dev/null || echo "$need"
  done
}

mapfile -t wanted < <(missing)
[ "${#wanted[@]}" -gt 0 ] || exit 0
packages=("${wanted[@]#*:}")

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "needs: missing: ${wanted[*]%%:*}; on Debian: apt-get install --no-install-recommends ${packages[*]}"
  exit 0
fi

# Packages of servers start them. Only the programs are wanted here: no service is started now (the
# policy) nor at the next boot (disabled below, where this run brought it).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
fi

echo "needs: installing ${packages[*]}"
log=$(mktemp)
apt-get update >"$log" 2>&1 || cat "$log"
for package in "${packages[@]}"; do
  # One at a time: one that cannot be had must not keep back the others.
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >"$log" 2>&1 || {
    echo "needs: $package could not be installed:"
    tail -n 5 "$log"
  }
  case $package in
    etcd-server) service=etcd ;;
    prometheus) service=prometheus ;;
    *) continue ;;
  esac
  ! command -v systemctl >/dev/null || systemctl --quiet disable "$service" >/dev/null 2>&1 || true
  ! pgrep -x "$service" >/dev/null || echo "needs: a $service is running; it is not the tests' own"
done
rm -f "$log"

mapfile -t wanted < <(missing)
[ "${#wanted[@]}" -eq 0 ] || echo "needs: still missing: ${wanted[*]%%:*}"
exit 0
