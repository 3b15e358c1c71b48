#!/usr/bin/env bash
# Unpacks a package of Debian into a folder, and looks whether its program runs there. It isn't installed, so that no service
# starts on this machine: unpack-debian.sh PACKAGE PROGRAM FOLDER, such as `unpack-debian.sh caddy usr/bin/caddy .tools/debian`.
set -euo pipefail

package=$1 program=$2 folder=$3
if ! command -v apt-get >/dev/null; then
  echo "The tests need $package; install it by hand on this system, so that /$program is there." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
download=$(mktemp -d)
trap 'rm -rf "$download"' EXIT
# Root downloads as itself: apt's own user can't write to the folder.
sandbox=()
if [ "$(id -u)" -eq 0 ]; then sandbox=(-o APT::Sandbox::User=root); fi
get() { (cd "$download" && apt-get download -qq "${sandbox[@]}" "$package"); }
if ! get 2>/dev/null; then
  "${as_root[@]}" apt-get update -qq
  get
fi
dpkg -x "$download/${package}"_*.deb "$download/root"
if ! "$download/root/$program" --version >/dev/null 2>&1 && ! "$download/root/$program" version >/dev/null 2>&1; then
  echo "Debian's $package doesn't run here, for lack of its libraries; install it by hand, so that /$program is there." >&2
  exit 1
fi
mkdir -p "$folder/$(dirname "$program")"
mv "$download/root/$program" "$folder/$program"
