#!/usr/bin/env bash
# Downloads a Debian package, checks that its program runs, and copies the program to a folder. Doesn't install the
# package, so that its service doesn't start on this machine.
# Usage: unpack-debian.sh PACKAGE PROGRAM FOLDER, for example `unpack-debian.sh caddy usr/bin/caddy .tools/debian`
set -euo pipefail

package=$1 program=$2 folder=$3
if ! command -v apt-get >/dev/null; then
  echo "The tests need /$program; install $package manually on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
download=$(mktemp -d)
trap 'rm -rf "$download"' EXIT
# By default, apt-get run by root downloads as the user _apt, which can't write to the folder.
sandbox=()
if [ "$(id -u)" -eq 0 ]; then sandbox=(-o APT::Sandbox::User=root); fi
download_package() { (cd "$download" && apt-get download -qq "${sandbox[@]}" "$package"); }
if ! download_package 2>/dev/null; then
  "${as_root[@]}" apt-get update -qq
  download_package
fi
dpkg -x "$download/${package}"_*.deb "$download/root"
if ! "$download/root/$program" --version >/dev/null 2>&1 && ! "$download/root/$program" version >/dev/null 2>&1; then
  echo "Debian's $package doesn't run here because libraries are missing; install it manually, at /$program." >&2
  exit 1
fi
mkdir -p "$folder/$(dirname "$program")"
mv "$download/root/$program" "$folder/$program"
