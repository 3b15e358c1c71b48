#!/usr/bin/env bash
# Runs every property test ten times as long as `make test` does, with a random seed: fuzz.sh path-to-bun
# Set PROPERTY_SEED to repeat a run, and PROPERTY_FACTOR to change its length.
set -euo pipefail
cd "$(dirname "$0")/.."

bun=$1
export PROPERTY_SEED=${PROPERTY_SEED:-$((RANDOM * 32768 + RANDOM))}
export PROPERTY_FACTOR=${PROPERTY_FACTOR:-10}
mapfile -t files < <(grep -rl 'from "fast-check"' --include='*.test.ts' test | sort)

echo "seed $PROPERTY_SEED, $PROPERTY_FACTOR times as long, ${#files[@]} files"
if ! "$bun" test --timeout=600000 "${files[@]}"; then
  echo "To repeat this run: make fuzz PROPERTY_SEED=$PROPERTY_SEED PROPERTY_FACTOR=$PROPERTY_FACTOR" >&2
  exit 1
fi
