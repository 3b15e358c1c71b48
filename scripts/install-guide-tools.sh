#!/usr/bin/env bash
# Installs the tools that the examples in the guides need: curl, jq, and Python with the package websockets.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
  echo "The guides need curl, jq and Python's package websockets; install them manually on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends curl jq python3-websockets
}
if ! install 2>/dev/null; then
  "${as_root[@]}" apt-get update -qq
  install
fi
