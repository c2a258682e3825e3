#!/usr/bin/env bash
# Installs the programs the tests need, as Debian packages, where they are missing and can be had. `needs.sh --axe` prints
# where axe-core is kept and installs nothing. It never fails: what stays missing is said by name, and the tests that need it say so themselves.
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
  ansible-playbook:ansible-core
  jq:jq
  zsh:zsh
  fish:fish
)

# What judges whether everybody can use the page of `certkit report` is one file of an npm package; what packs the Debian
# package is a cargo subcommand. Both are kept where `make kubernetes` keeps what it builds, or where cargo keeps programs.
axe_version=4.11.0
axe_sum=e9e5863c33a874f09bc01acd9234b7e3c871479f5eef8802fa582544465e6d01
axe=${CERTKIT_KUBERNETES_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/certkit}/axe-core-$axe_version/axe.min.js
tools() {
  local work
  if [ ! -e "$axe" ]; then
    command -v npm >/dev/null || apt_get npm
    work=$(mktemp -d)
    if (cd "$work" && npm pack --silent "axe-core@$axe_version" >/dev/null && tar -xzf axe-core-*.tgz) \
      && echo "$axe_sum  $work/package/axe.min.js" | sha256sum --quiet --check; then
      install -D --mode=644 "$work/package/axe.min.js" "$axe"
    else
      echo "needs: axe-core $axe_version could not be had from npm"
    fi
    rm -rf "$work"
  fi
  command -v cargo-deb >/dev/null || cargo install --quiet --locked cargo-deb || echo "needs: cargo-deb could not be installed"
}

apt_get() {
  [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1
}

missing() {
  for need in "${needs[@]}"; do
    command -v "${need%%:*}" >/dev/null || echo "$need"
  done
}

[ "${1:-}" != --axe ] || { echo "$axe"; exit 0; }

mapfile -t wanted < <(missing)
[ "${#wanted[@]}" -gt 0 ] || { tools; exit 0; }
packages=("${wanted[@]#*:}")

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "needs: missing: ${wanted[*]%%:*}; on Debian: apt-get install --no-install-recommends ${packages[*]}"
  tools
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
tools

mapfile -t wanted < <(missing)
[ "${#wanted[@]}" -eq 0 ] || echo "needs: still missing: ${wanted[*]%%:*}"
exit 0
