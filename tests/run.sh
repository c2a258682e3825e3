#!/usr/bin/env bash
# Runs every test and ends with the totals and the name of each test that was skipped.
#
# Tests of running control planes mostly wait: for apiservers to end, for leases, for certificates to expire. They run beside
# the others, which compute: one of these at a time, and one control plane of each lane. What a binary says is printed whole, once
# it has ended.
# RUN_ONLY="NAME..." runs these binaries alone.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# Nothing but these may take a control plane's turn (`take_turn` of tests/support/cluster.rs). Each of them has networks of
# its own: addresses of the loopback network that it claims, or a network namespace.
lanes=(
  "rotate_ca_live kubeadm_cluster rotate_ca_back_live deploy_live controller_live controller_storm_live"
  "control_plane aggregation recover_live cluster_copies kubelet watch_live signers_live"
)
read -ra waiting <<<"${lanes[*]}"
# These, and the program that they test, are built with the feature `cluster`.
cluster=(controller_live controller_storm_live watch_live signers_live)

target=${CARGO_TARGET_DIR:-target}
skipped=$target/certkit-skipped.txt
log=$target/certkit-test.log
said=$target/certkit-said
mkdir -p "$target" "$said"
rm -f "$skipped" "$said"/*
: >"$log"

status=0
TIMEFORMAT='%R s, processors %U s and %S s'
# Runs a command under a name; what it says is told whole, and remembered if it failed.
run() {
  local name=$1 code=0
  shift
  { time "$@" >"$said/$name.txt" 2>&1; } 2>"$said/$name.time" || code=$?
  (
    flock 9
    { echo "+ $name"; cat "$said/$name.txt"; echo "  $name: $(cat "$said/$name.time")"; } | tee -a "$log"
    [ "$code" -eq 0 ] || echo "$name (exit code $code)" >>"$said/failed"
  ) 9>"$said/lock"
}

# One target folder for both builds, so that what they share is compiled once. The program is set aside: the second build
# puts the one without the feature in its place.
{
  cargo test --locked --features cluster --no-run "${cluster[@]/#/--test=}" &&
    cp "$target/debug/certkit" "$target/certkit-cluster"
} 2>&1 | tee "$said/cluster.txt"
[ "${PIPESTATUS[0]}" -eq 0 ] || exit 1
export CERTKIT_CLUSTER_PROGRAM=$PWD/$target/certkit-cluster
case $target in /*) CERTKIT_CLUSTER_PROGRAM=$target/certkit-cluster ;; esac
cargo test --locked --no-run 2>&1 | tee "$said/built.txt"
[ "${PIPESTATUS[0]}" -eq 0 ] || exit 1
# "Executable tests/NAME.rs (PATH)", "tests/NAME/main.rs", "unittests src/NAME.rs"
mapfile -t built < <(sed -nE \
  's|^ *Executable (unittests src/)?(tests/)?([a-z_0-9]+)(/main)?\.rs \((.*)\)$|\3 \5|p' "$said/cluster.txt" "$said/built.txt")
declare -A program
names=()
for line in "${built[@]}"; do
  program[${line%% *}]=${line#* }
  names+=("${line%% *}")
done
if [ -n "${RUN_ONLY:-}" ]; then
  read -ra names <<<"$RUN_ONLY"
fi
for name in "${names[@]}" "${waiting[@]}"; do
  [ -n "${program[$name]:-}" ] || { echo "there are no tests called $name" >&2; exit 1; }
done
is_waiting() { [[ " ${waiting[*]} " == *" $1 "* ]]; }
is_wanted() { [[ " ${names[*]} " == *" $1 "* ]]; }

# As cargo runs them.
CARGO_MANIFEST_DIR=$PWD
export CARGO_MANIFEST_DIR
beside=()
for lane in "${!lanes[@]}"; do
  (
    export CERTKIT_TEST_LANE=$lane
    for name in ${lanes[lane]}; do
      if is_wanted "$name"; then run "$name" "${program[$name]}"; fi
    done
  ) &
  beside+=($!)
done
trap 'kill "${beside[@]}" 2>/dev/null' EXIT
for name in "${names[@]}"; do
  if ! is_waiting "$name"; then run "$name" "${program[$name]}"; fi
done
if [ -z "${RUN_ONLY:-}" ]; then
  run documentation cargo test --locked --doc
  # Without RSA key generation certkit is built on ring alone; what needs it must say so.
  run without-default-features cargo test --locked --no-default-features --lib
fi
wait "${beside[@]}"
trap - EXIT

echo
awk '/^test result:/ { runs++; passed += $4; failed += $6; ignored += $8 }
  END { printf "tests: %d passed, %d failed, %d ignored, in %d binaries\n", passed, failed, ignored, runs }' "$log"
awk '/^test .* \.\.\. FAILED$/ { print "  FAILED " $2 }' "$log" | sort -u
if [ -s "$said/failed" ]; then
  sed 's/^/  FAILED /' "$said/failed"
  status=1
fi
if [ -s "$skipped" ]; then
  sort -u "$skipped" | sed 's/^/  /'
else
  echo "  none skipped"
fi
exit "$status"
