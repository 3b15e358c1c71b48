#!/usr/bin/env bash
# Tests a release's executable on the platform that it is built for. Its checksum must match SHA256SUMS, its version must
# match its file name, and it must start and respond. Executables for musl are run in an Alpine container, which needs
# Docker.
# Usage: smoke-release.sh FOLDER TARGET, for example `smoke-release.sh dist/release linux-x64`
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

print_sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1; }
# tr removes the backslash or asterisk that sha256sum adds on Windows.
if ! grep -q "$(print_sha256 "$executable" | tr -d '\\*')  $name\$" "$folder/SHA256SUMS"; then
  echo "$name doesn't have the checksum in SHA256SUMS: download it again." >&2
  exit 1
fi
chmod +x "$executable"
version=${name#parley-}
version=${version%-"$target"*}

# Runs the executable in an Alpine container. Starts another container with Postgres, because executables for musl have
# no embedded Postgres.
run_in_alpine() {
  local database=parley-smoke-postgres
  docker run --detach --rm --name "$database" --network host -e POSTGRES_PASSWORD=parley postgres:18-alpine >/dev/null
  trap 'docker stop '"$database"' >/dev/null' EXIT
  # Checks over TCP, because the container first starts a server without TCP, to initialize the data.
  for _ in $(seq 1 60); do
    if docker exec "$database" pg_isready --quiet --host 127.0.0.1 --username postgres; then break; fi
    sleep 1
  done
  docker run --rm --network host --volume "$root:/parley:ro" --volume "$folder:/release:ro" \
    -e PORT=3000 -e DATABASE_URL=postgres://postgres:parley@127.0.0.1:5432/postgres alpine:3.22 \
    sh -ec "apk add --no-cache --quiet bash curl libstdc++; /release/$name --version; /parley/scripts/smoke.sh /release/$name"
}

# Windows has no embedded Postgres, so `serve` must fail with an error that mentions DATABASE_URL. smoke.sh isn't used,
# because it needs Unix signals.
run_on_windows() {
  "$executable" config check
  local output
  if output=$(cd "$(mktemp -d)" && "$executable" serve 2>&1); then
    echo "serve should have failed because DATABASE_URL is missing." >&2
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
