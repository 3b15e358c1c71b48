#!/usr/bin/env bash
# Installs a minimal Debian with systemd into a folder, to test deploy/install.sh. Takes two minutes.
# Usage: debian-root.sh FOLDER
set -euo pipefail

folder=$1
mirror=$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
# shellcheck disable=SC2016 # apt-get expands $(REPO_URI), not the shell.
[ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)
rm -rf "$folder.new"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl,logrotate bookworm "$folder.new" "$mirror" >/dev/null
mv "$folder.new" "$folder"
