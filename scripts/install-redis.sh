#!/usr/bin/env bash
# Installs the Debian package that the tests need for Redis: its program without its service, so that nothing runs beside
# the tests, which start one of their own.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
  echo "The tests need redis-server in /usr/bin or /usr/local/bin; install it by hand on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends redis-tools
