#!/usr/bin/env bash
# Installs Debian's PgBouncer for the tests. Disables its service, because the tests start PgBouncer themselves.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
  echo "The tests need pgbouncer in /usr/sbin, /usr/bin or /usr/local/bin; install it manually on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends pgbouncer
if command -v systemctl >/dev/null; then "${as_root[@]}" systemctl disable --now pgbouncer >/dev/null 2>&1 || true; fi
