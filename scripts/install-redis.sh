#!/usr/bin/env bash
# Installs the Debian package with the Redis program, but without its service. The tests start their own server.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
  echo "The tests need redis-server in /usr/bin or /usr/local/bin; install it manually on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends redis-tools
