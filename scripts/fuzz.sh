#!/usr/bin/env bash
# Runs every property-based test with ten times as many cases as `make test`, with a random seed. Set PROPERTY_SEED to
# repeat a run, and PROPERTY_FACTOR to change the number of cases.
# Usage: fuzz.sh PATH_TO_BUN
set -euo pipefail
cd "$(dirname "$0")/.."

bun=$1
export PROPERTY_SEED=${PROPERTY_SEED:-$((RANDOM * 32768 + RANDOM))}
export PROPERTY_FACTOR=${PROPERTY_FACTOR:-10}
mapfile -t files < <(grep -rl 'from "fast-check"' --include='*.test.ts' test | sort)

echo "seed $PROPERTY_SEED, $PROPERTY_FACTOR times as many cases, ${#files[@]} files"
if ! "$bun" test --timeout=600000 "${files[@]}"; then
  echo "To repeat this run: make fuzz PROPERTY_SEED=$PROPERTY_SEED PROPERTY_FACTOR=$PROPERTY_FACTOR" >&2
  exit 1
fi
