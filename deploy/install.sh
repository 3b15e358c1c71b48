#!/bin/sh
# Installs Parley as a systemd service, or upgrades it after a backup. Run `install.sh --help`; see docs/vm.md.
set -eu

executable=/usr/local/bin/parley
run_script=/usr/local/sbin/parley-run
unit=/etc/systemd/system/parley.service
low_port_unit=/etc/systemd/system/parley.service.d/low-port.conf
env_file=/etc/parley/parley.env
data_dir=/var/lib/parley
# This can take a while: the first start unpacks Postgres and creates a database, and an upgrade may migrate a large one.
ready_timeout_s=${PARLEY_READY_TIMEOUT_S:-120}
executable_bytes_max=536870912
script_dir=$(cd "$(dirname "$0")" && pwd)

usage() {
  cat <<'HELP'
Usage: install.sh [OPTIONS] [EXECUTABLE | URL | VERSION]

Installs Parley as a systemd service, or upgrades it. Run it as root. You can safely run it again.
Without an argument, it installs the file `parley` next to this script, or ../dist/parley.

  --sha256 HEX     checksum of the executable (default: from EXECUTABLE.sha256 or SHA256SUMS in the same folder)
  --releases URL   base URL of releases: URL/vVERSION/parley-VERSION-linux-x64 (or PARLEY_RELEASES)
  --port N         port for a first installation (3000)
  --allow-older    allow an older version, if it has all migrations of the database
  --no-backup      upgrade without a backup
  --no-start       install only
  --dry-run        show what would be done
  --uninstall      remove the service and the executable; keep data and settings

An existing /etc/parley/parley.env is never changed. An upgrade makes a backup first, keeps the old executable as
/usr/local/bin/parley.previous, restarts the service and waits until it is ready.
HELP
}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}
fail_usage() {
  echo "install.sh: $* \`install.sh --help\` shows the options." >&2
  exit 2
}
print() { echo "$*"; }

# Runs every command that changes something, so that --dry-run can show it instead.
run() {
  if [ "$dry_run" = yes ]; then echo "+ $*"; else "$@"; fi
}

source=
checksum=
releases=${PARLEY_RELEASES:-}
port=
start=yes
dry_run=no
action=install
upgrade_options=
while [ $# -gt 0 ]; do
  case $1 in
    --sha256 | --releases | --port)
      [ $# -ge 2 ] || fail_usage "$1 needs a value."
      case $1 in --sha256) checksum=$2 ;; --releases) releases=$2 ;; --port) port=$2 ;; esac
      shift
      ;;
    --allow-older | --no-backup) upgrade_options="$upgrade_options $1" ;;
    --no-start) start=no ;;
    --dry-run) dry_run=yes ;;
    --uninstall) action=uninstall ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) fail_usage "There is no option $1." ;;
    *)
      [ -z "$source" ] || fail_usage "Only one executable can be installed."
      source=$1
      ;;
  esac
  shift
done
case $port in
  '') ;;
  *[!0-9]* | ??????*) fail_usage "--port $port is not a number from 1 to 65535." ;;
  *) { [ "$port" -ge 1 ] && [ "$port" -le 65535 ]; } || fail_usage "--port $port is not a number from 1 to 65535." ;;
esac
checksum=$(echo "$checksum" | tr 'A-F' 'a-f')
case $checksum in
  '') ;;
  *[!0-9a-f]*) fail_usage "--sha256 is 64 hexadecimal digits." ;;
  *) [ ${#checksum} -eq 64 ] || fail_usage "--sha256 is 64 hexadecimal digits." ;;
esac

[ "$(id -u)" -eq 0 ] || fail "this needs root; use \`sudo $0\`."
[ "$(uname -s)" = Linux ] || fail "this is for Linux with systemd; elsewhere start \`parley serve\` by other means."
command -v systemctl >/dev/null ||
  fail "systemd is missing (no systemctl). Start \`parley serve\` with your own service manager, or use a container."

[ -e /proc/self/exe ] || fail "/proc is not mounted, which Parley needs; mount it first."

# While an image is built, systemd is installed but not running.
is_systemd_running() {
  state=$(systemctl is-system-running 2>/dev/null || true)
  [ "$state" != offline ]
}

uninstall() {
  if is_systemd_running; then run systemctl disable --now parley 2>/dev/null || true; else run systemctl disable parley 2>/dev/null || true; fi
  run rm -f "$unit" "$low_port_unit" "$executable" "$executable.previous" "$run_script"
  if [ -d "$(dirname "$low_port_unit")" ]; then run rmdir "$(dirname "$low_port_unit")" 2>/dev/null || true; fi
  if is_systemd_running; then run systemctl daemon-reload; fi
  print "Parley is removed. Its data is still in $data_dir, its settings in $env_file."
  print "To delete them permanently: rm -r $data_dir /etc/parley && userdel parley"
}
if [ "$action" = uninstall ]; then
  uninstall
  exit 0
fi

# `parley-run` and upgrades need D-Bus; a minimal Debian may not have it.
if is_systemd_running && [ ! -S /run/dbus/system_bus_socket ]; then
  fail "D-Bus is missing (no /run/dbus/system_bus_socket); install it with \`apt-get install dbus\`."
fi

for file in parley.service parley-run; do
  [ -f "$script_dir/$file" ] || fail "$script_dir/$file is missing; copy the whole folder \`deploy\`."
done

case $(uname -m) in
  x86_64 | amd64) platform=linux-x64 machine=3e00 ;;
  aarch64 | arm64) platform=linux-arm64 machine=b700 ;;
  *) fail "$(uname -m) is not supported, only x86_64 and aarch64." ;;
esac
if ldd --version 2>&1 | grep -qi musl; then platform=$platform-musl; fi

# Concurrent runs would overwrite each other's files.
exec 9>/run/parley-install.lock
if command -v flock >/dev/null && ! flock -n 9; then fail "another install.sh is running; wait until it ends."; fi
# The temporary folder is next to the target, because /tmp may be too small or mounted noexec.
mkdir -p "$(dirname "$executable")"
rm -rf "$(dirname "$executable")"/.parley-install.*
work=$(mktemp -d "$(dirname "$executable")/.parley-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

download() { # URL FILE BYTES_MAX
  command -v curl >/dev/null || fail "curl is needed to download $1; install it, or download the file manually."
  curl --fail --silent --show-error --location --proto '=http,https' --proto-redir '=https' --connect-timeout 15 \
    --speed-limit 1000 --speed-time 30 --max-time 1800 --max-filesize "$3" --output "$2" "$1"
}

# Prints the checksum of NAME from FILE, which has sha256sum's format. With `any`, a file with only one checksum matches any
# name.
read_checksum() { # NAME FILE [any]
  awk -v name="$1" -v any="${3:-}" '
    length($1) == 64 && $1 ~ /^[0-9a-fA-F]+$/ {
      listed = $2; sub(/^\*/, "", listed); sub(/.*\//, "", listed)
      lines++; only = tolower($1)
      if (listed == name) found = tolower($1)
    }
    END { if (found) print found; else if (any && lines == 1) print only }' "$2"
}

# Puts the executable at $work/parley, and its expected checksum into $checksum.
fetch_executable() {
  if [ -z "$source" ]; then
    for file in "$script_dir/parley" "$script_dir/../dist/parley"; do
      if [ -f "$file" ]; then
        source=$file
        break
      fi
    done
    [ -n "$source" ] || fail_usage "No executable found next to this script; give its path."
  fi
  if [ ! -e "$source" ]; then
    case $source in
      [0-9]*.[0-9]*.[0-9]* | v[0-9]*.[0-9]*.[0-9]*)
        version=${source#v}
        [ -n "$releases" ] || fail_usage "To install a version, set --releases URL."
        source=${releases%/}/v$version/parley-$version-$platform
        ;;
    esac
  fi
  name=$(basename "$source")
  case $source in
    https://* | http://*)
      case $source in
        http://*) [ -n "$checksum" ] || fail_usage "Over http, an attacker could replace the executable and its checksum: use https, or give --sha256." ;;
      esac
      print "Downloading $source"
      download "$source" "$work/parley" "$executable_bytes_max" || fail "$source can't be downloaded; check the address."
      if [ -z "$checksum" ] && download "$source.sha256" "$work/sum" 1000000 2>/dev/null; then
        checksum=$(read_checksum "$name" "$work/sum" any)
      fi
      if [ -z "$checksum" ] && download "${source%/*}/SHA256SUMS" "$work/sum" 1000000 2>/dev/null; then
        checksum=$(read_checksum "$name" "$work/sum")
      fi
      ;;
    *://*) fail_usage "$source is neither a file nor an https URL." ;;
    *)
      [ -f "$source" ] || fail "the file $source doesn't exist."
      cp "$source" "$work/parley"
      if [ -z "$checksum" ] && [ -f "$source.sha256" ]; then checksum=$(read_checksum "$name" "$source.sha256" any); fi
      if [ -z "$checksum" ] && [ -f "$(dirname "$source")/SHA256SUMS" ]; then
        checksum=$(read_checksum "$name" "$(dirname "$source")/SHA256SUMS")
      fi
      ;;
  esac
}

check_executable() {
  actual=$(sha256sum "$work/parley" | cut -d ' ' -f 1)
  if [ -z "$checksum" ]; then
    fail "no checksum found for $source. Put $name.sha256 or SHA256SUMS next to it; or, if you built or trust this file, give --sha256 $actual."
  fi
  [ "$actual" = "$checksum" ] ||
    fail "$source is damaged or was replaced: its SHA-256 is $actual, expected $checksum. Download it again."
  [ "$(od -An -tx1 -N4 "$work/parley" | tr -d ' \n')" = 7f454c46 ] ||
    fail "$source is not an executable for Linux; unpack it if it is an archive."
  [ "$(od -An -tx1 -j18 -N2 "$work/parley" | tr -d ' \n')" = "$machine" ] ||
    fail "$source was built for a different processor; this machine needs the one for $platform."
  chmod 0755 "$work/parley"
  new_version=$("$work/parley" --version 2>"$work/error" </dev/null) ||
    fail "$source doesn't run on this machine ($(grep -m 1 '[[:alnum:]]' "$work/error")); it needs the one for $platform."
  case $new_version in
    "parley "*) ;;
    *) fail "$source is not Parley." ;;
  esac
}

# Reads /proc, because minimal images have no tool that lists listening ports.
is_port_used() {
  hex=$(printf '%04X' "$1")
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v suffix=":$hex" '
    $4 == "0A" && substr($2, length($2) - 4) == suffix { used = 1 } END { exit !used }'
}

# Prints the last value of a setting in the settings file.
read_setting() { sed -nE "s/^[[:space:]]*$1=[\"']?([^\"']*)[\"']?[[:space:]]*\$/\1/p" "$env_file" 2>/dev/null | tail -n 1; }

create_user() {
  getent group parley >/dev/null || run groupadd --system parley
  if ! getent passwd parley >/dev/null; then
    shell=/usr/sbin/nologin
    [ -x "$shell" ] || shell=/sbin/nologin
    run useradd --system --gid parley --home-dir "$data_dir" --no-create-home --shell "$shell" --comment Parley parley
  fi
  run install -d -m 0700 -o parley -g parley "$data_dir" "$data_dir/backups"
  run install -d -m 0755 /etc/parley
}

write_settings() {
  if [ -e "$env_file" ]; then
    if [ -n "$port" ] && [ "$(read_setting PORT)" != "$port" ]; then print "$env_file exists and stays as it is; change PORT there."; fi
    return
  fi
  if [ "$dry_run" = yes ]; then
    echo "+ write $env_file (0640 root:parley) with a new JWT_SECRET"
    return
  fi
  secret=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
  [ ${#secret} -eq 64 ] || fail "can't read random bytes from /dev/urandom to generate JWT_SECRET."
  # Write a temporary file first: no partial file after an interruption, and no access before its permissions are set.
  draft=$env_file.new
  (umask 077 && : >"$draft")
  chown root:parley "$draft"
  cat >"$draft" <<SETTINGS
# Parley's settings, one NAME=value per line; docs/operations.md lists them all. After a change: systemctl restart parley
# Keep a copy of this file on another machine: without JWT_SECRET, encrypted secrets in a restored backup can't be read.
APP_ENV=production
DATA_DIR=$data_dir
# Only this machine can connect. Put a proxy with TLS in front, or set TLS_CERT_FILE, TLS_KEY_FILE and HOST=0.0.0.0.
HOST=127.0.0.1
PORT=${port:-3000}
JWT_SECRET=$secret

# The URL for clients, and the proxy whose X-Forwarded-For is trusted.
#PUBLIC_URL=https://chat.example.com
#TRUSTED_PROXIES=127.0.0.1

# If it isn't set, Parley uses an embedded Postgres in DATA_DIR.
#DATABASE_URL=postgres://parley:password@127.0.0.1:5432/parley

#AI_MODELS=openai/gpt-5.2
#OPENAI_API_KEY=
#METRICS_TOKEN=
SETTINGS
  chmod 0640 "$draft"
  mv "$draft" "$env_file"
}

install_files() {
  run install -m 0755 "$script_dir/parley-run" "$run_script"
  run install -m 0644 "$script_dir/parley.service" "$unit"
  used_port=$(read_setting PORT)
  [ -n "$used_port" ] || used_port=${port:-3000}
  if [ "$used_port" -lt 1024 ] 2>/dev/null; then
    run install -d -m 0755 "$(dirname "$low_port_unit")"
    if [ "$dry_run" = yes ]; then
      echo "+ write $low_port_unit"
    else
      cat >"$low_port_unit" <<'DROPIN'
# Written by install.sh, because PORT is below 1024. Such a port needs this capability, which has no effect in a user
# namespace.
[Service]
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
AmbientCapabilities=CAP_NET_BIND_SERVICE
PrivateUsers=no
DROPIN
    fi
  elif [ -e "$low_port_unit" ]; then
    run rm -f "$low_port_unit"
  fi
}

# Copy into the same folder, then rename: this replaces a file atomically, even while it is executed.
replace_executable() { # FILE TARGET
  run install -m 0755 "$1" "$2.new"
  run mv -f "$2.new" "$2"
  if command -v restorecon >/dev/null; then run restorecon "$2" || true; fi
}

# Waits until Parley notifies systemd that it is ready. Returns early if it keeps failing.
wait_ready() { # INVOCATION: the previous one, which may still be active for a moment
  waited=0
  while [ "$waited" -lt "$ready_timeout_s" ]; do
    invocation=$(show_property InvocationID)
    if [ -z "$invocation" ] || [ "$invocation" != "$1" ]; then
      case $(systemctl is-active parley 2>/dev/null || true) in
        active) return 0 ;;
        failed) return 1 ;;
      esac
      restarts=$(show_property NRestarts)
      if [ "${restarts:-0}" -ge 3 ] 2>/dev/null; then return 1; fi
    fi
    sleep 1
    waited=$((waited + 1))
  done
  return 1
}
show_property() { systemctl show --property="$1" --value parley 2>/dev/null || true; }

start_service() {
  run systemctl daemon-reload
  run systemctl enable --quiet parley
  if [ "$start" = no ]; then return 0; fi
  if [ "$dry_run" = yes ]; then
    echo "+ systemctl --no-block restart parley, and wait until it is ready"
    return 0
  fi
  systemctl reset-failed parley 2>/dev/null || true
  before=$(show_property InvocationID)
  # Without --no-block, this would block while Parley waits for its database.
  systemctl --no-block restart parley
  wait_ready "$before"
}

show_failure() {
  echo >&2
  echo "install.sh: Parley isn't ready. Its last log lines (more: journalctl -u parley):" >&2
  journalctl --unit=parley --lines=15 --no-pager --output=cat >&2 2>/dev/null || true
}

is_installed() { [ -x "$executable" ]; }
has_database() {
  used_dir=$(read_setting DATA_DIR)
  [ -d "${used_dir:-$data_dir}/postgres" ] || [ -n "$(read_setting DATABASE_URL)$(read_setting DATABASE_URL_FILE)" ]
}

install_first() {
  used_port=$(read_setting PORT)
  [ -n "$used_port" ] || used_port=${port:-3000}
  if is_systemd_running && [ "$start" = yes ] && is_port_used "$used_port"; then
    fail "port $used_port is in use. Stop the program that uses it, or choose another port with --port N (or PORT in $env_file, if that exists)."
  fi
  create_user
  write_settings
  replace_executable "$work/parley" "$executable"
  install_files
  if ! is_systemd_running; then
    run systemctl enable --quiet parley
    print "Installed $new_version. systemd isn't running here; Parley starts with the machine."
    print "If this is an image for several machines, set a different JWT_SECRET in $env_file on each."
    return
  fi
  if ! start_service; then
    show_failure
    fail "correct the settings in $env_file, then: systemctl restart parley"
  fi
  [ "$dry_run" = no ] || return 0
  print "Installed $new_version: $executable, settings in $env_file, data in $data_dir."
  if [ "$start" = no ]; then
    print "Start it with: systemctl start parley"
    return
  fi
  print "It listens on port $used_port at $(read_setting HOST). Next:"
  print "  parley-run admin create --email you@example.com    # prompts for a password"
  print "  journalctl -u parley -f                            # the log"
}

upgrade() {
  old_version=$("$executable" --version 2>/dev/null || echo "parley of an unknown version")
  create_user
  write_settings
  if cmp -s "$work/parley" "$executable"; then
    unit_before=$(sha256sum "$unit" "$run_script" "$low_port_unit" 2>/dev/null || true)
    install_files
    unit_after=$(sha256sum "$unit" "$run_script" "$low_port_unit" 2>/dev/null || true)
    print "$new_version is already installed."
    is_systemd_running || return 0
    if [ "$unit_before" != "$unit_after" ] || [ "$(systemctl is-active parley || true)" != active ]; then
      if ! start_service; then
        show_failure
        fail "correct the settings in $env_file, then: systemctl restart parley"
      fi
    fi
    return
  fi
  if ! is_systemd_running; then
    if has_database; then fail "systemd isn't running here, so no backup can be made with the service's settings; run this on the running machine."; fi
    run cp -p "$executable" "$executable.previous"
    replace_executable "$work/parley" "$executable"
    install_files
    print "Upgraded from $old_version to $new_version."
    return
  fi
  if ! has_database; then upgrade_options="$upgrade_options --no-backup"; fi
  [ -x "$run_script" ] || run install -m 0755 "$script_dir/parley-run" "$run_script"
  if [ "$dry_run" = yes ]; then
    echo "+ parley-run upgrade$upgrade_options --sha256 $checksum $source"
    install_files
    echo "+ systemctl --no-block restart parley, and wait until it is ready"
    return
  fi
  # `parley upgrade` checks version and migrations, makes a backup, keeps the old executable, and prints how to roll back.
  # The options contain no spaces.
  # shellcheck disable=SC2086
  "$run_script" upgrade $upgrade_options --sha256 "$checksum" "$work/parley" >"$work/upgrade" ||
    fail "nothing was replaced; $old_version is still installed and was not restarted."
  grep -v '^The running server was not restarted' "$work/upgrade"
  install_files
  if [ "$start" = no ]; then
    systemctl daemon-reload
    return
  fi
  if start_service; then
    print "Upgraded from $old_version to $new_version; it is ready."
    return
  fi
  show_failure
  echo >&2
  sed -n '/^To roll back/,$p' "$work/upgrade" >&2
  exit 1
}

fetch_executable
check_executable
if is_installed; then upgrade; else install_first; fi
