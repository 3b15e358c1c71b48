#!/usr/bin/env bash
# Tests Parley's container image without Docker. Runs it as
# `docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges` does, but with namespaces that
# this script creates, and from buildah's storage. Tests requests, the health check, kills, restarts, shutdown, and the
# errors for unusable volumes. Needs root, buildah and util-linux.
# Usage: try-image.sh IMAGE
set -euo pipefail

image=${1:?usage: try-image.sh IMAGE}
export BUILDAH_ISOLATION=chroot
folder=$(mktemp -d)
container=$(buildah from --pull-never "$image")
pids=()

clean_up() {
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  buildah rm "$container" >/dev/null
  rm -rf "$folder"
}
trap clean_up EXIT

fail() {
  echo "try-image: $1" >&2
  tail -n 20 "$folder"/log >&2 || true
  exit 1
}

root=$(buildah mount "$container")
port=$(("$(od -An -N2 -tu2 /dev/urandom)" % 20000 + 30000))
url=http://127.0.0.1:$port
config=$(buildah inspect --type image --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}} {{.OCIv1.Config.StopSignal}} {{.OCIv1.Config.WorkingDir}}' "$image")
[ "$config" = "10001:10001 [parley] [serve] SIGTERM /" ] || fail "the image is configured as $config"

# run_in VOLUME USER SETTING… -- COMMAND…: runs a command with the image as its read-only root file system, with the
# volume mounted at /data, and without capabilities. USER has the form UID:GID.
run_in() {
  local volume=$1 user=$2 settings=()
  shift 2
  while [ "$1" != -- ]; do settings+=("$1"); shift; done
  shift
  # shellcheck disable=SC2016 # The inner shell expands its arguments.
  exec unshare --mount --pid --ipc --uts --fork --kill-child bash -euc '
    root=$1 volume=$2 user=$3; shift 3
    mount --bind "$root" "$root"
    mount --bind "$volume" "$root/data"
    mount -t tmpfs -o size=64m,mode=1777,noexec,nosuid tmpfs "$root/tmp"
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o size=1m,mode=755 tmpfs "$root/dev"
    mkdir "$root/dev/shm"
    mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
    for device in null zero full random urandom tty; do
      touch "$root/dev/$device"
      mount --bind "/dev/$device" "$root/dev/$device"
    done
    mount -o remount,bind,ro "$root"
    cd "$root"
    exec chroot . /usr/bin/setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs \
      --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
      /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DATA_DIR=/data "$@"
  ' -- "$root" "$volume" "$user" "${settings[@]}" "$@"
}

# start_in VOLUME USER SETTING…: starts `parley serve` in the background, and returns when it is ready. Sets `supervisor`
# to the PID of `unshare`, and `process` to the PID, on the host, of the container's process 1.
start_in() {
  (run_in "$1" "$2" "PORT=$port" "${@:3}" -- parley serve) >"$folder/log" 2>&1 &
  pids+=($!)
  supervisor=$!
  for _ in $(seq 1 600); do
    process=$(cat "/proc/$supervisor/task/$supervisor/children" 2>/dev/null || true)
    if curl --silent --fail --output /dev/null --max-time 5 "$url/readyz"; then return; fi
    kill -0 "$supervisor" 2>/dev/null || fail "Parley exited before it was ready"
    sleep 0.1
  done
  fail "Parley was not ready after a minute"
}
healthcheck() { (run_in "$volume" 10001:10001 "PORT=$port" -- parley healthcheck) >"$folder/health" 2>&1; }
request() { curl --silent --show-error --fail --max-time 10 "$@"; }
# json_field NAME: prints the string field with that name from the JSON on standard input.
json_field() { sed -nE "s/.*\"$1\":\"([^\"]*)\".*/\1/p"; }
count_messages() {
  request --header "Authorization: Bearer $token" "$url/api/v1/conversations/$conversation/messages" | grep -o '"content":"hello ' | wc -l
}

volume=$folder/volume
cp --archive "$root/data" "$volume"

echo "try-image: first start, as user 10001 with a read-only root file system"
code=0; healthcheck || code=$?
[ "$code" -eq 1 ] || fail "healthcheck without a running server exits with code $code"
start_in "$volume" 10001:10001
healthcheck || fail "healthcheck of a ready server exits with code $?: $(cat "$folder/health")"
(run_in "$volume" 10001:10001 -- sh -c '! touch /usr/local/bin/file 2>/dev/null && touch /tmp/file /data/file && rm /data/file') ||
  fail "the root file system is writable, or /tmp or /data isn't"
json=(--header "Content-Type: application/json")
token=$(request "${json[@]}" --data '{"email":"ada@example.com","password":"correct horse battery"}' "$url/api/v1/auth/register" | json_field access_token)
[ -n "$token" ] || fail "no access token"
auth=(--header "Authorization: Bearer $token")
conversation=$(request "${json[@]}" "${auth[@]}" --data '{"reply_mode":"never"}' "$url/api/v1/conversations" | sed -nE 's/^\{"id":"([^"]+)".*/\1/p')
for n in 1 2 3; do
  request "${json[@]}" "${auth[@]}" --data "{\"content\":\"hello $n\"}" "$url/api/v1/conversations/$conversation/messages" >/dev/null || fail "a message was rejected"
done

echo "try-image: kill and restart, three times"
for n in 1 2 3; do
  kill -KILL "$process"
  wait "$supervisor" 2>/dev/null || true
  start_in "$volume" 10001:10001
  [ "$(count_messages)" -eq 3 ] || fail "a message was lost after a kill"
done

echo "try-image: shutdown by SIGTERM"
kill -TERM "$process"
code=0; wait "$supervisor" || code=$?
[ "$code" -eq 0 ] || fail "Parley exited with code $code after SIGTERM"
grep -q '"stopped"' "$folder/log" || fail "the shutdown was not graceful"
code=0; healthcheck || code=$?
[ "$code" -eq 1 ] || fail "healthcheck of a stopped server exits with code $code"

# expect_start_error WORDS VOLUME USER SETTING…: checks that `parley serve` exits with code 1 and writes one line to
# stderr, which contains these words.
expect_start_error() {
  local words=$1 code=0
  shift
  (run_in "$1" "$2" "PORT=$port" LOG_LEVEL=silent "${@:3}" -- parley serve) >"$folder/out" 2>"$folder/log" || code=$?
  [ "$code" -eq 1 ] || fail "Parley exited with code $code instead of 1"
  [ "$(wc -l <"$folder/log")" -eq 1 ] || fail "the error is not one line"
  grep -q -- "$words" "$folder/log" || fail "the error doesn't contain \"$words\""
  sed 's/^/  /' "$folder/log"
}
echo "try-image: unusable volumes"
secret=JWT_SECRET=0123456789abcdef0123456789abcdef
root_volume=$folder/owned-by-root
mkdir --mode=0755 "$root_volume"
expect_start_error "chown" "$root_volume" 10001:10001
expect_start_error "chown" "$root_volume" 10001:10001 "$secret"
expect_start_error "chown" "$volume" 20002:20002
expect_start_error "chown" "$volume" 20002:20002 "$secret"
# This user owns the volume, but doesn't exist in the image.
unknown_user_volume=$folder/owned-by-unknown-user
mkdir --mode=0700 "$unknown_user_volume"
chown 20002:20002 "$unknown_user_volume"
expect_start_error "has no entry in /etc/passwd" "$unknown_user_volume" 20002:20002

echo "try-image: all checks of $image passed"
