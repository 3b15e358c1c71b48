#!/usr/bin/env bash
# Unpacks Debian's nginx into a folder without installing it, so that its service doesn't start on this machine.
# Usage: install-nginx.sh FOLDER
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
# By default, apt-get run by root downloads as the user _apt, which can't write to the folder.
sandbox=()
if [ "$(id -u)" -eq 0 ]; then sandbox=(-o APT::Sandbox::User=root); fi
download_nginx() { (cd "$download" && apt-get download -qq "${sandbox[@]}" nginx); }
if ! download_nginx 2>/dev/null; then
  "${as_root[@]}" apt-get update -qq
  download_nginx
fi
dpkg -x "$download"/nginx_*.deb "$folder"
if ! "$folder/usr/sbin/nginx" -v 2>/dev/null; then
  rm -rf "$folder"
  echo "Debian's nginx doesn't run here because libraries are missing; install the package nginx manually." >&2
  exit 1
fi
