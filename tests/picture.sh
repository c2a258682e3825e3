#!/usr/bin/env bash
# Takes the pictures of `certkit report` that README.md shows, docs/report.png and docs/report-dark.png: a made-up cluster in which
# something of each kind is to be told.
set -euo pipefail
cd "$(dirname "$0")/.."

certkit=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release/certkit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

"$certkit" init -q --workspace --name prod --endpoint api.prod.example.com:6443 \
  --host cp1=10.0.0.11 --host cp2=10.0.0.12 --host cp3=10.0.0.13 --dir prod
for node in $(seq 1 24); do nodes+=("w$node=10.0.1.$node"); done
"$certkit" nodes add -q "${nodes[@]}" --dir prod
cat >>prod/certkit.yaml <<'YAML'
overrides:
  admin.conf: {validity: 5d}
  super-admin.conf: {validity: 2d}
  apiserver: {validity: 90d}
  apiserver-kubelet-client: {validity: 25d}
  front-proxy-client: {validity: 20d}
  etcd-server: {validity: 180d}
  etcd-peer: {validity: 180d}
  kubelet: {validity: 60d}
YAML
"$certkit" rotate -q --all --dir prod
"$certkit" rotate-ca etcd-ca --next -q --dir prod
"$certkit" kubeconfig alice --group developers --dir prod >/dev/null
rm prod/hosts/w7/pki/kubelet.crt
chmod 644 prod/hosts/cp2/pki/apiserver.key
"$certkit" report --dir prod -o report.html
# The same picture wherever it is taken.
sed -i "s|$work|/srv|g" report.html

for scheme in 1: 0:-dark; do
  chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --window-size=1100,1080 \
    --user-data-dir="$work/profile" --blink-settings="preferredColorScheme=${scheme%:*}" \
    --screenshot="$OLDPWD/docs/report${scheme#*:}.png" "file://$work/report.html" 2>/dev/null
done
