#!/usr/bin/env bash
# What CI runs, by `make check`. Stops at the first fault; the last line counts the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

# All tests run on the machine's Postgres, the oldest that we support, and all but drills and these on the embedded one as well:
# they use no database, or start one of their own in any run.
not_twice=("acceptance/**" "ai/**" "commands/**" "deploy/**" "lib/**" "pooler/**" "architecture*" "docs*")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
# Files of tests that failed, and passed when they ran again by themselves.
flaky=()
# More files than this that fail in one run are no matter of chance.
RERUN_FILES_MAX=3

step() { printf '\n== %s\n' "$1"; }

# The last summary line counts: a test may print one of its own.
count() { sed -nE "s/^ *([0-9]+) $1\$/\1/p" "$log" | tail -1; }

# The files with a failed test. The list at the end of the output repeats the tests without their files.
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
      step "again, by themselves: ${files[*]}"
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

step "names that mean two things"
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

for file in "${flaky[@]}"; do echo "FLAKY: $file failed, and passed when it ran again by itself. Fix it."; done
echo "$passed passed, $failed failed"
