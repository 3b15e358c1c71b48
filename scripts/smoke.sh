#!/usr/bin/env bash
# Starts an executable as a new user would, in an empty folder with no configuration, and asks it for the main things:
# smoke.sh dist/parley
set -euo pipefail

executable=$(realpath "$1")
folder=$(mktemp -d)
port=$("$BUN" -e 'const s = Bun.serve({ port: 0, fetch: () => new Response() }); console.log(s.port); s.stop(true);')
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
field() { sed -nE "s/.*\"$1\":\"([^\"]*)\".*/\1/p"; }

cd "$folder"
env -i PATH="$PATH" HOME="$folder" PORT="$port" "$executable" >"$folder/log" 2>&1 &
pid=$!

for _ in $(seq 1 300); do
  if ask --output /dev/null "$url/readyz" 2>/dev/null; then ready=yes; break; fi
  kill -0 "$pid" 2>/dev/null || fail "it ended before it was ready"
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
  fail "the message was not taken"
ask "${auth[@]}" "$url/api/v1/conversations/$conversation/messages" | grep -q '"content":"hello"' ||
  fail "the message is not there"
ask "$url/swagger/json" | grep -q '"openapi":"3.0.3"' || fail "no OpenAPI document"
ask "$url/swagger" | grep -q 'api-reference' || fail "no API page"
ask "$url/metrics" | grep -q '^parley_messages_total{role="user"} 1$' || fail "the message is not counted"
PORT=$port "$executable" healthcheck || fail "healthcheck says it is not ready"

kill -TERM "$pid"
code=0
wait "$pid" || code=$?
pid=
[ "$code" -eq 0 ] || fail "it ended with $code after SIGTERM"
echo "smoke: the executable starts, serves and stops"
