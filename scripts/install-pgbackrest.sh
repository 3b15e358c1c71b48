#!/usr/bin/env bash
# Installs Debian's pgBackRest for `make try-pitr`, which runs it with a separate configuration and separate folders.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
  echo "try-pitr needs pgbackrest in PATH; install it manually on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends pgbackrest
