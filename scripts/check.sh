#!/usr/bin/env bash
# Runs everything that CI checks; see `make check`. Stops at the first failure. The last line counts the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

# All tests run on the machine's Postgres, which is the oldest supported version in CI. Most run on the embedded Postgres
# too, except drills and these: they use no database, or always start their own.
not_twice=("acceptance/**" "ai/**" "commands/**" "deploy/**" "lib/**" "pooler/**" "architecture*" "docs*")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
# Test files that failed, then passed when run again alone.
flaky=()
# If more files than this fail in one run, the failures aren't random, so nothing is rerun.
RERUN_FILES_MAX=3

step() { printf '\n== %s\n' "$1"; }

# Reads the last summary line, because a test may print one too.
count() { sed -nE "s/^ *([0-9]+) $1\$/\1/p" "$log" | tail -1; }

# Prints the files with a failed test. The list at the end of the output repeats the tests without their files.
list_failed_files() {
  awk '/^[0-9]+ tests? failed:/ { exit } /^test\/.*\.test\.ts:$/ { file = substr($0, 1, length($0) - 1) } /^\(fail\)/ { print file }' "$log" | sort -u
}

run_tests() {
  local status=0
  $MAKE --no-print-directory "$1" TEST_POSTGRES="$2" SKIPPED="${3:-}" </dev/null 2>&1 | tee "$log" || status=$?
  local newly_passed newly_failed files
  newly_passed=$(count pass)
  newly_failed=$(count fail)
  if [ "$status" -ne 0 ] && [ "${newly_failed:-0}" -gt 0 ]; then
    mapfile -t files < <(list_failed_files)
    if [ "${#files[@]}" -ge 1 ] && [ "${#files[@]}" -le "$RERUN_FILES_MAX" ]; then
      step "rerun of the failed files: ${files[*]}"
      if $MAKE --no-print-directory test TEST_POSTGRES="$2" TEST="${files[*]}" </dev/null; then
        flaky+=("${files[@]}")
        newly_passed=$((newly_passed + newly_failed))
        newly_failed=0
        status=0
      fi
    fi
  fi
  passed=$((passed + ${newly_passed:-0}))
  failed=$((failed + ${newly_failed:-1}))
  if [ "$status" -ne 0 ]; then
    echo "$passed passed, $failed failed"
    exit "$status"
  fi
}

step "format and lint"
"$BUN" x biome ci

step "types"
"$BUN" x tsc -p .

step "contract"
"$BUN" scripts/contract.ts --check

step "floating promises"
"$BUN" x oxlint --type-aware --deny-warnings src test scripts

step "unused exports, files and packages"
"$BUN" --bun x knip --no-progress --treat-config-hints-as-errors

step "names"
"$BUN" scripts/ambiguous-names.ts

# Before the tests: some of them use the executable.
step "build"
$MAKE --no-print-directory build

step "tests on the machine's Postgres"
run_tests test server

step "drills"
run_tests quick-drill server

step "tests on the embedded Postgres"
run_tests test embedded "${not_twice[*]/#/test/}"

step "the executable"
BUN=$BUN scripts/smoke.sh dist/parley

for file in "${flaky[@]}"; do echo "FLAKY: $file failed, then passed when run again alone. Fix it."; done
echo "$passed passed, $failed failed"
