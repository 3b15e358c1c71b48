#!/usr/bin/env bash
# Runs all checks that CI runs; see `make check`. Stops at the first failure. The last line has the number of passed and
# failed tests.
set -euo pipefail
cd "$(dirname "$0")/.."

# All tests run on the machine's Postgres; in CI, this is the oldest supported version. Most also run on the embedded
# Postgres, except for the drills and the files below, which use no database or always start their own.
skipped_on_embedded=("acceptance/**" "ai/**" "commands/**" "deploy/**" "lib/**" "pooler/**" "architecture*" "docs*")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
# Test files that failed in the full run and passed when rerun.
flaky=()
# Maximum number of files that are rerun. If more files fail, the failures are probably not random.
RERUN_FILES_MAX=3

step() { printf '\n== %s\n' "$1"; }

# count_tests pass|fail: prints the number of passed or failed tests, from the last matching line of the log, because
# tests may print such lines too.
count_tests() { sed -nE "s/^ *([0-9]+) $1\$/\1/p" "$log" | tail -1; }

# Prints the files with a failed test. Ignores the summary at the end of the output, which repeats the failed tests
# without their files.
list_failed_files() {
  awk '/^[0-9]+ tests? failed:/ { exit } /^test\/.*\.test\.ts:$/ { file = substr($0, 1, length($0) - 1) } /^\(fail\)/ { print file }' "$log" | sort -u
}

# run_tests TARGET POSTGRES [SKIPPED]: runs the tests of a make target on one kind of Postgres, without the skipped
# files.
run_tests() {
  local status=0
  $MAKE --no-print-directory "$1" TEST_POSTGRES="$2" SKIPPED="${3:-}" </dev/null 2>&1 | tee "$log" || status=$?
  local newly_passed newly_failed files
  newly_passed=$(count_tests pass)
  newly_failed=$(count_tests fail)
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

# Built before the tests, because some of them use the executable.
step "build"
$MAKE --no-print-directory build

step "tests on the machine's Postgres"
run_tests test server

step "drills"
run_tests quick-drill server

step "tests on the embedded Postgres"
run_tests test embedded "${skipped_on_embedded[*]/#/test/}"

step "the executable"
BUN=$BUN scripts/smoke.sh dist/parley

for file in "${flaky[@]}"; do echo "FLAKY: $file failed in the full run and passed when rerun. Fix it."; done
echo "$passed passed, $failed failed"
