#!/usr/bin/env bash
# Runs an image of Parley as `docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges` would, without
# Docker: in separate namespaces, with buildah's storage. Needs root, buildah and util-linux: try-image.sh IMAGE
# Tests serving, the health check, kills, restarts, shutdown, and the errors for unusable volumes.
set -euo pipefail

image=${1:?usage: try-image.sh IMAGE}
export BUILDAH_ISOLATION=chroot
folder=$(mktemp -d)
container=$(buildah from --pull-never "$image")
pids=()

finish() {
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  buildah rm "$container" >/dev/null
  rm -rf "$folder"
}
trap finish EXIT

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

# run_in VOLUME USER SETTING… -- COMMAND…: with the image as a read-only root, the volume at /data, and no capabilities.
run_in() {
  local volume=$1 user=$2 settings=()
  shift 2
  while [ "$1" != -- ]; do settings+=("$1"); shift; done
  shift
  # shellcheck disable=SC2016 # The inner shell reads its own arguments.
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

# start_in VOLUME USER SETTING…: serves in the background. `process` is the host's PID of the container's process 1.
start_in() {
  (run_in "$1" "$2" "PORT=$port" "${@:3}" -- parley serve) >"$folder/log" 2>&1 &
  pids+=($!)
  supervisor=$!
  for _ in $(seq 1 600); do
    process=$(cat "/proc/$supervisor/task/$supervisor/children" 2>/dev/null || true)
    if curl --silent --fail --output /dev/null --max-time 5 "$url/readyz"; then return; fi
    kill -0 "$supervisor" 2>/dev/null || fail "it exited before it was ready"
    sleep 0.1
  done
  fail "not ready after a minute"
}
healthcheck() { (run_in "$volume" 10001:10001 "PORT=$port" -- parley healthcheck) >"$folder/health" 2>&1; }
ask() { curl --silent --show-error --fail --max-time 10 "$@"; }
field() { sed -nE "s/.*\"$1\":\"([^\"]*)\".*/\1/p"; }
count_messages() {
  ask --header "Authorization: Bearer $token" "$url/api/v1/conversations/$conversation/messages" | grep -o '"content":"hello ' | wc -l
}

volume=$folder/volume
cp --archive "$root/data" "$volume"

echo "try-image: first start, as user 10001 with a read-only root"
code=0; healthcheck || code=$?
[ "$code" -eq 1 ] || fail "healthcheck without a running server exits with $code"
start_in "$volume" 10001:10001
healthcheck || fail "healthcheck of a ready server exits with $?: $(cat "$folder/health")"
(run_in "$volume" 10001:10001 -- sh -c '! touch /usr/local/bin/file 2>/dev/null && touch /tmp/file /data/file && rm /data/file') ||
  fail "the root is writable, or /tmp or /data isn't"
json=(--header "Content-Type: application/json")
token=$(ask "${json[@]}" --data '{"email":"ada@example.com","password":"correct horse battery"}' "$url/api/v1/auth/register" | field access_token)
[ -n "$token" ] || fail "no access token"
auth=(--header "Authorization: Bearer $token")
conversation=$(ask "${json[@]}" "${auth[@]}" --data '{"reply_mode":"never"}' "$url/api/v1/conversations" | sed -nE 's/^\{"id":"([^"]+)".*/\1/p')
for n in 1 2 3; do
  ask "${json[@]}" "${auth[@]}" --data "{\"content\":\"hello $n\"}" "$url/api/v1/conversations/$conversation/messages" >/dev/null || fail "a message was not accepted"
done

echo "try-image: killed and started again, three times"
for n in 1 2 3; do
  kill -KILL "$process"
  wait "$supervisor" 2>/dev/null || true
  start_in "$volume" 10001:10001
  [ "$(count_messages)" -eq 3 ] || fail "a message was lost after a kill"
done

echo "try-image: stopped by SIGTERM"
kill -TERM "$process"
code=0; wait "$supervisor" || code=$?
[ "$code" -eq 0 ] || fail "it exited with $code after SIGTERM"
grep -q '"stopped"' "$folder/log" || fail "the shutdown was not graceful"
code=0; healthcheck || code=$?
[ "$code" -eq 1 ] || fail "healthcheck of a stopped server exits with $code"

# refuses WORDS VOLUME USER SETTING…: startup must exit with 1 and one line on stderr that has these words.
refuses() {
  local words=$1 code=0
  shift
  (run_in "$1" "$2" "PORT=$port" LOG_LEVEL=silent "${@:3}" -- parley serve) >"$folder/out" 2>"$folder/log" || code=$?
  [ "$code" -eq 1 ] || fail "it exited with $code instead of 1"
  [ "$(wc -l <"$folder/log")" -eq 1 ] || fail "the error is not one line"
  grep -q -- "$words" "$folder/log" || fail "the error doesn't contain \"$words\""
  sed 's/^/  /' "$folder/log"
}
echo "try-image: unusable volumes"
secret=JWT_SECRET=0123456789abcdef0123456789abcdef
mkdir --mode=0755 "$folder/roots"
refuses "chown" "$folder/roots" 10001:10001
refuses "chown" "$folder/roots" 10001:10001 "$secret"
refuses "chown" "$volume" 20002:20002
refuses "chown" "$volume" 20002:20002 "$secret"
mkdir --mode=0700 "$folder/others"
chown 20002:20002 "$folder/others"
refuses "has no entry in /etc/passwd" "$folder/others" 20002:20002

echo "try-image: $image serves, survives kills and stops"
