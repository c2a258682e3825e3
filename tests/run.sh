#!/usr/bin/env bash
# Runs every test and ends with the totals and the name of each test that was skipped.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

target=${CARGO_TARGET_DIR:-target}
skipped=$target/certkit-skipped.txt
log=$target/certkit-test.log
mkdir -p "$target"
rm -f "$skipped"
: >"$log"

status=0
run() {
  echo "+ cargo test $*"
  cargo test --locked --no-fail-fast "$@" 2>&1 | tee -a "$log"
  [ "${PIPESTATUS[0]}" -eq 0 ] || status=1
}

run
# Without RSA key generation certkit is built on ring alone; what needs it must say so.
run --no-default-features --lib

echo
awk '/^test result:/ { runs++; passed += $4; failed += $6; ignored += $8 }
  END { printf "tests: %d passed, %d failed, %d ignored, in %d binaries\n", passed, failed, ignored, runs }' "$log"
awk '/^test .* \.\.\. FAILED$/ { print "  FAILED " $2 }' "$log" | sort -u
if [ -s "$skipped" ]; then
  sort -u "$skipped" | sed 's/^/  /'
else
  echo "  none skipped"
fi
exit "$status"
