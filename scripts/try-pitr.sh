#!/usr/bin/env bash
# Tests point-in-time recovery as docs/backup.md describes it, with a private Postgres and pgBackRest: Parley writes, somebody
# deletes data by mistake, and a restore goes back to just before that. Needs root, Postgres and pgbackrest: try-pitr.sh EXECUTABLE
set -euo pipefail

parley=$(realpath "${1:?usage: try-pitr.sh EXECUTABLE}")
[ "$(id -u)" -eq 0 ] || { echo "try-pitr: run it as root; Postgres runs as the user postgres." >&2; exit 1; }
bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
folder=$(mktemp -d /tmp/parley-pitr-XXXXXX)
data=$folder/data
chmod 755 "$folder"
install -d -o postgres -g postgres -m 700 "$data" "$folder/repository" "$folder/log" "$folder/lock"
install -d -o postgres -g postgres -m 755 "$folder/socket"
parley_pid=

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups -- env -i PATH="$PATH" LC_ALL=C.UTF-8 "$@"; }
pgbackrest_() { as_postgres pgbackrest --config="$folder/pgbackrest.conf" --stanza=parley "$@"; }
ask() { as_postgres "$bin/psql" -XAtq -v ON_ERROR_STOP=1 -h "$folder/socket" -d parley -c "$1"; }
start_postgres() { as_postgres "$bin/pg_ctl" start -D "$data" -l "$folder/log/postgres.log" -w -t 120 -s; }
stop_postgres() { as_postgres "$bin/pg_ctl" stop -D "$data" -m "$1" -w -s; }

finish() {
  status=$?
  [ -z "$parley_pid" ] || kill -KILL "$parley_pid" 2>/dev/null || true
  stop_postgres immediate 2>/dev/null || true
  if [ "$status" -ne 0 ]; then tail -n 20 "$folder"/log/* "$folder/parley.log" >&2 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap finish EXIT

fail() {
  echo "try-pitr: $1" >&2
  exit 1
}

# call METHOD PATH BODY: prints the response; exits with 1 for an error.
call() {
  curl -sS --fail-with-body -X "$1" "$url$2" -H 'content-type: application/json' ${token:+-H "authorization: Bearer $token"} -d "$3"
}
# field NAME: prints the first string with that name in the JSON on standard input.
field() { sed -nE "s/.*\"$1\":\"([^\"]+)\".*/\1/p" | head -n 1; }

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
# send FROM TO: sends messages with these numbers.
send() {
  for n in $(seq "$1" "$2"); do
    call POST "/api/v1/conversations/$conversation/messages" "{\"content\":\"message $n\"}" >/dev/null
  done
}
sum_messages() { ask "select count(*) || ' ' || md5(string_agg(m::text, '|' order by conversation_id, seq)) from messages m"; }

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
pgbackrest_ stanza-create
pgbackrest_ check

start_parley
token=
token=$(call POST /api/v1/auth/register '{"email":"ada@example.com","password":"correct horse battery","display_name":"Ada"}' | field access_token)
[ -n "$token" ] || fail "registration failed"
conversation=$(call POST /api/v1/conversations '{"title":"Kept","kind":"group","reply_mode":"never"}' | field id)
send 1 100
send 101 200 &
sender=$!
pgbackrest_ backup --type=full
wait "$sender"
# After the backup: these are only in the archived log.
send 201 300
before=$(sum_messages)
target=$(ask "select clock_timestamp()")
echo "before the mistake, at $target: $before"
sleep 1
send 301 310
ask "delete from messages where seq <= 250"
[ "$(sum_messages)" != "$before" ] || fail "the mistake changed nothing"
# A shutdown archives the rest of the log. After a crash, pg_wal is needed for it; without, up to archive_timeout is lost.
stop_parley
stop_postgres fast
rm -rf "${data:?}"/*
started=$(date +%s%N)
pgbackrest_ restore --type=time --target="$target" --target-action=promote
start_postgres
for _ in $(seq 600); do
  [ "$(ask "select pg_is_in_recovery()")" = t ] || break
  sleep 0.1
done
after=$(sum_messages)
echo "restored in $((($(date +%s%N) - started) / 1000000)) ms: $after"
[ "$after" = "$before" ] || fail "the restored messages differ"

start_parley
last=$(call GET "/api/v1/conversations/$conversation/messages?limit=1" "" | grep -o '"content":"message [0-9]*"')
[ "$last" = '"content":"message 300"' ] || fail "the last message is $last"
send 301 310
[ "$(ask "select count(*) || ' ' || max(seq) from messages")" = "310 310" ] || fail "new messages are not numbered from the restored ones"
stop_parley
# The new timeline is archived and can be backed up.
pgbackrest_ backup --type=diff
pgbackrest_ check
echo "try-pitr: all messages are restored, sessions are valid, and new messages are archived."
