#!/usr/bin/env bash
# Publishes the files of `make release` as the GitHub release of TAG: publish.sh dist/release. Needs `gh` and GH_TOKEN.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=$1
if [ -z "${TAG:-}" ]; then
  echo "TAG is not set: set it to the version's tag, like v0.1.0." >&2
  exit 2
fi
kind=()
if [[ $TAG == *-* ]]; then kind=(--prerelease); fi
files=()
for file in "$folder"/*; do
  if [ "$(basename "$file")" != RELEASE_NOTES.md ]; then files+=("$file"); fi
done
# A draft first, so nobody downloads an incomplete release. A repeated run continues with the draft.
if ! gh release view "$TAG" >/dev/null 2>&1; then
  gh release create "$TAG" --verify-tag --draft "${kind[@]}" --title "Parley ${TAG#v}" --notes-file "$folder/RELEASE_NOTES.md"
fi
gh release upload "$TAG" --clobber "${files[@]}"
gh release edit "$TAG" --draft=false
