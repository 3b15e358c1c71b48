#!/usr/bin/env bash
# Tests point-in-time recovery as described in docs/backup.md, with a temporary Postgres server and pgBackRest. Sends
# messages through Parley, deletes some of them, as an operator might do by mistake, and restores the state before that.
# Needs root, Postgres and pgbackrest.
# Usage: try-pitr.sh EXECUTABLE
set -euo pipefail

parley=$(realpath "${1:?usage: try-pitr.sh EXECUTABLE}")
[ "$(id -u)" -eq 0 ] || { echo "try-pitr: run this script as root, so that it can run Postgres as the user postgres." >&2; exit 1; }
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
folder=$(mktemp -d /tmp/parley-pitr-XXXXXX)
data=$folder/data
chmod 755 "$folder"
install -d -o postgres -g postgres -m 700 "$data" "$folder/repository" "$folder/log" "$folder/lock"
install -d -o postgres -g postgres -m 755 "$folder/socket"
parley_pid=

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups -- env -i PATH="$PATH" LC_ALL=C.UTF-8 "$@"; }
run_pgbackrest() { as_postgres pgbackrest --config="$folder/pgbackrest.conf" --stanza=parley "$@"; }
query() { as_postgres "$bin/psql" -XAtq -v ON_ERROR_STOP=1 -h "$folder/socket" -d parley -c "$1"; }
start_postgres() { as_postgres "$bin/pg_ctl" start -D "$data" -l "$folder/log/postgres.log" -w -t 120 -s; }
stop_postgres() { as_postgres "$bin/pg_ctl" stop -D "$data" -m "$1" -w -s; }

clean_up() {
  status=$?
  [ -z "$parley_pid" ] || kill -KILL "$parley_pid" 2>/dev/null || true
  stop_postgres immediate 2>/dev/null || true
  if [ "$status" -ne 0 ]; then tail -n 20 "$folder"/log/* "$folder/parley.log" >&2 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap clean_up EXIT

fail() {
  echo "try-pitr: $1" >&2
  exit 1
}

# request METHOD PATH BODY: sends a request to Parley and prints the response. Fails if the status is an error.
request() {
  curl -sS --fail-with-body -X "$1" "$url$2" -H 'content-type: application/json' ${token:+-H "authorization: Bearer $token"} -d "$3"
}
# json_field NAME: prints the first string field with that name from the JSON on standard input.
json_field() { sed -nE "s/.*\"$1\":\"([^\"]+)\".*/\1/p" | head -n 1; }

start_parley() {
  : > "$folder/parley.log"
  (
    cd "$folder"
    exec env -i PATH="$PATH" PORT=0 HOST=127.0.0.1 DATA_DIR="$folder/parley" RATE_LIMIT_ENABLED=false LOG_FORMAT=json \
      DATABASE_URL="postgres://postgres@/parley?host=$folder/socket" "$parley" serve
  ) >> "$folder/parley.log" 2>&1 &
  parley_pid=$!
  for _ in $(seq 600); do
    url=http://$(sed -nE 's/.*"address":"([^"]+)".*/\1/p' "$folder/parley.log" | head -n 1)
    if [ "$url" != http:// ] && curl -sf "$url/readyz" >/dev/null; then return; fi
    kill -0 "$parley_pid" 2>/dev/null || fail "Parley exited"
    sleep 0.1
  done
  fail "Parley did not become ready"
}
stop_parley() {
  kill -TERM "$parley_pid"
  wait "$parley_pid" || fail "Parley exited with an error"
  parley_pid=
}
# send_messages FIRST LAST: sends one message for each number in this range, with the number in its text.
send_messages() {
  for n in $(seq "$1" "$2"); do
    request POST "/api/v1/conversations/$conversation/messages" "{\"content\":\"message $n\"}" >/dev/null
  done
}
checksum_messages() { query "select count(*) || ' ' || md5(string_agg(m::text, '|' order by conversation_id, seq)) from messages m"; }

cat > "$folder/pgbackrest.conf" <<CONF
[global]
repo1-path=$folder/repository
repo1-retention-full=2
compress-type=zst
log-path=$folder/log
lock-path=$folder/lock
log-level-console=warn
start-fast=y

[parley]
pg1-path=$data
pg1-socket-path=$folder/socket
CONF

echo "Postgres: $("$bin/postgres" --version), $(pgbackrest version)"
as_postgres "$bin/initdb" -D "$data" -U postgres --auth=peer --encoding=UTF8 --locale=C.UTF-8 --data-checksums >/dev/null
echo "local all all trust" > "$data/pg_hba.conf"
cat >> "$data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$folder/socket'
archive_mode = on
archive_command = 'pgbackrest --config=$folder/pgbackrest.conf --stanza=parley archive-push %p'
archive_timeout = 60
CONF
start_postgres
as_postgres "$bin/createdb" -h "$folder/socket" -U postgres parley
run_pgbackrest stanza-create
run_pgbackrest check

start_parley
token=
token=$(request POST /api/v1/auth/register '{"email":"ada@example.com","password":"correct horse battery","display_name":"Ada"}' | json_field access_token)
[ -n "$token" ] || fail "registration failed"
conversation=$(request POST /api/v1/conversations '{"title":"Kept","kind":"group","reply_mode":"never"}' | json_field id)
send_messages 1 100
send_messages 101 200 &
sender=$!
run_pgbackrest backup --type=full
wait "$sender"
# These messages are sent after the backup, so they are only in the archived WAL.
send_messages 201 300
before=$(checksum_messages)
target=$(query "select clock_timestamp()")
echo "before the mistake, at $target: $before"
sleep 1
send_messages 301 310
query "delete from messages where seq <= 250"
[ "$(checksum_messages)" != "$before" ] || fail "the delete statement changed nothing"
# A clean shutdown archives the rest of the WAL. After a crash, the rest is only in pg_wal. If that folder is lost too, the
# changes since the last archived WAL file are lost, so at most those of the last archive_timeout seconds.
stop_parley
stop_postgres fast
rm -rf "${data:?}"/*
started=$(date +%s%N)
run_pgbackrest restore --type=time --target="$target" --target-action=promote
start_postgres
for _ in $(seq 600); do
  [ "$(query "select pg_is_in_recovery()")" = t ] || break
  sleep 0.1
done
after=$(checksum_messages)
echo "restored in $((($(date +%s%N) - started) / 1000000)) ms: $after"
[ "$after" = "$before" ] || fail "the restored messages differ"

start_parley
last=$(request GET "/api/v1/conversations/$conversation/messages?limit=1" "" | grep -o '"content":"message [0-9]*"')
[ "$last" = '"content":"message 300"' ] || fail "the last message is $last"
send_messages 301 310
[ "$(query "select count(*) || ' ' || max(seq) from messages")" = "310 310" ] || fail "the sequence numbers of new messages don't continue those of the restored messages"
stop_parley
# Check that Postgres archives the new timeline, and that it can be backed up.
run_pgbackrest backup --type=diff
run_pgbackrest check
echo "try-pitr: all messages were restored, the session is still valid, and new messages are archived."
