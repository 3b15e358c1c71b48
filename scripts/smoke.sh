#!/usr/bin/env bash
# Smoke test: starts an executable in an empty folder without configuration, and tries its main features:
# smoke.sh dist/parley. DATABASE_URL and REDIS_URL are passed on if set. Without PORT, a free port is used.
set -euo pipefail

executable=$(realpath "$1")
folder=$(mktemp -d)
port=${PORT:-$("$BUN" -e 'const s = Bun.serve({ port: 0, fetch: () => new Response() }); console.log(s.port); s.stop(true);')}
url=http://127.0.0.1:$port
pid=

finish() {
  if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then kill -KILL "$pid"; wait "$pid" || true; fi
  rm -rf "$folder"
}
trap finish EXIT

fail() {
  echo "smoke: $1" >&2
  tail -n 40 "$folder/log" >&2
  exit 1
}
ask() { curl --silent --show-error --fail --max-time 10 "$@"; }
# Reads the whole response before searching it. `curl | grep -q` sometimes fails, since grep exits at the first match.
shows() { local response; response=$(ask "${@:2}") && grep -q -- "$1" <<<"$response"; }
field() { sed -nE "s/.*\"$1\":\"([^\"]*)\".*/\1/p"; }

cd "$folder"
settings=(PATH="$PATH" HOME="$folder" PORT="$port")
for name in DATABASE_URL REDIS_URL; do
  if [ -n "${!name:-}" ]; then settings+=("$name=${!name}"); fi
done
env -i "${settings[@]}" "$executable" >"$folder/log" 2>&1 &
pid=$!

for _ in $(seq 1 300); do
  if ask --output /dev/null "$url/readyz" 2>/dev/null; then ready=yes; break; fi
  kill -0 "$pid" 2>/dev/null || fail "it exited before it was ready"
  sleep 0.1
done
[ "${ready:-}" = yes ] || fail "not ready after 30 seconds"

json=(--header "Content-Type: application/json")
token=$(ask "${json[@]}" --data '{"email":"ada@example.com","password":"correct horse battery"}' \
  "$url/api/v1/auth/register" | field access_token)
[ -n "$token" ] || fail "no access token"
auth=(--header "Authorization: Bearer $token")
conversation=$(ask "${json[@]}" "${auth[@]}" --data '{"title":"smoke","reply_mode":"never"}' \
  "$url/api/v1/conversations" | sed -nE 's/^\{"id":"([^"]+)".*/\1/p')
[ -n "$conversation" ] || fail "no conversation"
ask "${json[@]}" "${auth[@]}" --data '{"content":"hello"}' "$url/api/v1/conversations/$conversation/messages" >/dev/null ||
  fail "the message was not accepted"
shows '"content":"hello"' "${auth[@]}" "$url/api/v1/conversations/$conversation/messages" ||
  fail "the message is missing"
shows '"openapi":"3.0.3"' "$url/swagger/json" || fail "no OpenAPI document"
shows 'api-reference' "$url/swagger" || fail "no API page"
shows '<h1[^>]*>Realtime</h1>' "$url/docs/realtime" || fail "no guides"
shows '^- .*(/docs/realtime.md)' "$url/llms.txt" || fail "no llms.txt"
shows '^parley_messages_total{role="user"} 1$' "$url/metrics" || fail "the message is not counted"
PORT=$port "$executable" healthcheck || fail "healthcheck reports that it is not ready"

kill -TERM "$pid"
code=0
wait "$pid" || code=$?
pid=
[ "$code" -eq 0 ] || fail "it exited with $code after SIGTERM"
echo "smoke: the executable starts, serves and stops"
