#!/usr/bin/env bash
# Installs the tools that the tests use to check the files in deploy/: systemd-analyze, shellcheck and logrotate. With the
# argument `container`, also installs systemd-nspawn and debootstrap, which the tests use to boot Debian in a container.
set -euo pipefail

packages=(systemd shellcheck logrotate)
if [ "${1:-}" = container ]; then packages+=(systemd-container debootstrap); fi
if ! command -v apt-get >/dev/null; then
  echo "The tests of deploy/ need ${packages[*]}; install them manually on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
install() { "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null; }
if ! install 2>/dev/null; then
  "${as_root[@]}" apt-get update -qq
  install
fi
