#!/usr/bin/env bash
# Unpacks Debian's nginx into a folder: install-nginx.sh FOLDER. It isn't installed, so no service starts on this machine.
set -euo pipefail

folder=$1
if ! command -v apt-get >/dev/null; then
  echo "The benchmarks and tests need nginx; install it manually on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
download=$(mktemp -d)
trap 'rm -rf "$download"' EXIT
# As root, download without apt's sandbox user, which can't write to the folder.
sandbox=()
if [ "$(id -u)" -eq 0 ]; then sandbox=(-o APT::Sandbox::User=root); fi
get() { (cd "$download" && apt-get download -qq "${sandbox[@]}" nginx); }
if ! get 2>/dev/null; then
  "${as_root[@]}" apt-get update -qq
  get
fi
dpkg -x "$download"/nginx_*.deb "$folder"
if ! "$folder/usr/sbin/nginx" -v 2>/dev/null; then
  rm -rf "$folder"
  echo "Debian's nginx doesn't run here because libraries are missing; install the package nginx manually." >&2
  exit 1
fi
