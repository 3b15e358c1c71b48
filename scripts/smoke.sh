#!/usr/bin/env bash
# Smoke test: starts an executable in an empty folder without configuration, and tests its main features. Passes on
# DATABASE_URL and REDIS_URL if they are set. Uses a free port unless PORT is set.
# Usage: smoke.sh EXECUTABLE
set -euo pipefail

executable=$(realpath "$1")
folder=$(mktemp -d)
port=${PORT:-$("$BUN" -e 'const s = Bun.serve({ port: 0, fetch: () => new Response() }); console.log(s.port); s.stop(true);')}
url=http://127.0.0.1:$port
pid=

clean_up() {
  if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then kill -KILL "$pid"; wait "$pid" || true; fi
  rm -rf "$folder"
}
trap clean_up EXIT

fail() {
  echo "smoke: $1" >&2
  tail -n 40 "$folder/log" >&2
  exit 1
}
request() { curl --silent --show-error --fail --max-time 10 "$@"; }
# response_contains PATTERN CURL_ARGUMENT…: checks that a response matches a pattern. Reads the whole response before it
# calls grep, because `curl | grep -q` sometimes fails: grep exits at the first match, while curl is still writing.
response_contains() { local response; response=$(request "${@:2}") && grep -q -- "$1" <<<"$response"; }
# json_field NAME: prints the string field with that name from the JSON on standard input.
json_field() { sed -nE "s/.*\"$1\":\"([^\"]*)\".*/\1/p"; }

cd "$folder"
settings=(PATH="$PATH" HOME="$folder" PORT="$port")
for name in DATABASE_URL REDIS_URL; do
  if [ -n "${!name:-}" ]; then settings+=("$name=${!name}"); fi
done
env -i "${settings[@]}" "$executable" >"$folder/log" 2>&1 &
pid=$!

for _ in $(seq 1 300); do
  if request --output /dev/null "$url/readyz" 2>/dev/null; then ready=yes; break; fi
  kill -0 "$pid" 2>/dev/null || fail "the executable exited before it was ready"
  sleep 0.1
done
[ "${ready:-}" = yes ] || fail "the executable was not ready after 30 seconds"

json=(--header "Content-Type: application/json")
token=$(request "${json[@]}" --data '{"email":"ada@example.com","password":"correct horse battery"}' \
  "$url/api/v1/auth/register" | json_field access_token)
[ -n "$token" ] || fail "no access token"
auth=(--header "Authorization: Bearer $token")
conversation=$(request "${json[@]}" "${auth[@]}" --data '{"title":"smoke","reply_mode":"never"}' \
  "$url/api/v1/conversations" | sed -nE 's/^\{"id":"([^"]+)".*/\1/p')
[ -n "$conversation" ] || fail "no conversation"
request "${json[@]}" "${auth[@]}" --data '{"content":"hello"}' "$url/api/v1/conversations/$conversation/messages" >/dev/null ||
  fail "the message was rejected"
response_contains '"content":"hello"' "${auth[@]}" "$url/api/v1/conversations/$conversation/messages" ||
  fail "the message is missing"
response_contains '"openapi":"3.0.3"' "$url/swagger/json" || fail "no OpenAPI document"
response_contains 'api-reference' "$url/swagger" || fail "no API page"
response_contains '<h1[^>]*>Realtime</h1>' "$url/docs/realtime" || fail "no guides"
response_contains '^- .*(/docs/realtime.md)' "$url/llms.txt" || fail "no llms.txt"
response_contains '^parley_messages_total{role="user"} 1$' "$url/metrics" || fail "the message is not counted"
PORT=$port "$executable" healthcheck || fail "healthcheck reports that it is not ready"

kill -TERM "$pid"
code=0
wait "$pid" || code=$?
pid=
[ "$code" -eq 0 ] || fail "the executable exited with code $code after SIGTERM"
echo "smoke: all checks passed"
