#!/usr/bin/env bash
# Installs Debian's Chromium, which the tests use to open rendered documents.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
  echo "The tests need Chromium; install it manually on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
install() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }
if ! install 2>/dev/null; then
  "${as_root[@]}" apt-get update -qq
  install
fi
