#!/usr/bin/env bash
# Tests a release executable on its target system: smoke-release.sh dist/release linux-x64. Its checksum must match
# SHA256SUMS, its version must match its file name, and it must serve. Those for musl run in Alpine, which needs Docker.
set -euo pipefail

folder=$(cd "$1" && pwd)
target=$2
root=$(cd "$(dirname "$0")/.." && pwd)
executable=$(find "$folder" -name "parley-*-$target" -o -name "parley-*-$target.exe" | head -1)
if [ -z "$executable" ]; then
  echo "No executable for $target in $folder; run \`make release\`." >&2
  exit 1
fi
name=$(basename "$executable")

digest() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1; }
# On Windows, sha256sum marks binary files with a backslash or an asterisk, which is removed.
if ! grep -q "$(digest "$executable" | tr -d '\\*')  $name\$" "$folder/SHA256SUMS"; then
  echo "$name doesn't have the checksum in SHA256SUMS: download it again." >&2
  exit 1
fi
chmod +x "$executable"
version=${name#parley-}
version=${version%-"$target"*}

# Runs the executable in Alpine with a Postgres container, because it has no embedded Postgres.
run_in_alpine() {
  local database=parley-smoke-postgres
  docker run --detach --rm --name "$database" --network host -e POSTGRES_PASSWORD=parley postgres:18-alpine >/dev/null
  trap 'docker stop '"$database"' >/dev/null' EXIT
  # The first server only prepares the data; the second one listens on TCP.
  for _ in $(seq 1 60); do
    if docker exec "$database" pg_isready --quiet --host 127.0.0.1 --username postgres; then break; fi
    sleep 1
  done
  docker run --rm --network host --volume "$root:/parley:ro" --volume "$folder:/release:ro" \
    -e PORT=3000 -e DATABASE_URL=postgres://postgres:parley@127.0.0.1:5432/postgres alpine:3.22 \
    sh -ec "apk add --no-cache --quiet bash curl libstdc++; /release/$name --version; /parley/scripts/smoke.sh /release/$name"
}

# On Windows, Parley has no embedded Postgres and must ask for DATABASE_URL. smoke.sh needs Unix signals.
run_on_windows() {
  "$executable" config check
  local output
  if output=$(cd "$(mktemp -d)" && "$executable" serve 2>&1); then
    echo "serve should have failed and asked for DATABASE_URL." >&2
    exit 1
  fi
  grep DATABASE_URL <<<"$output"
}

"$executable" --version 2>/dev/null | grep --fixed-strings "parley $version " || [[ $target == *-musl ]]
case $target in
  *-musl) run_in_alpine ;;
  windows-*) run_on_windows ;;
  *) PORT=${PORT:-3000} "$root/scripts/smoke.sh" "$executable" ;;
esac
