#!/usr/bin/env bash
# What CI runs, by `make check`. Stops at the first fault; the last line counts the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

step() { printf '\n== %s\n' "$1"; }

step "format and lint"
"$BUN" x biome ci

step "types"
"$BUN" x tsc -p .

step "contract"
"$BUN" scripts/contract.ts --check

# Before the tests: some of them use the executable.
step "build"
$MAKE --no-print-directory build

step "tests"
status=0
"$BUN" test --parallel=3 --no-isolate --timeout=30000 </dev/null 2>&1 | tee "$log" || status=$?
# The last summary line counts: a test may print one of its own.
count() { sed -nE "s/^ *([0-9]+) $1\$/\1/p" "$log" | tail -1; }
passed=$(count pass)
failed=$(count fail)
if [ "$status" -ne 0 ]; then
  echo "${passed:-0} passed, ${failed:-1} failed"
  exit "$status"
fi

step "the executable"
BUN=$BUN scripts/smoke.sh dist/parley

echo "${passed:-0} passed, ${failed:-0} failed"
