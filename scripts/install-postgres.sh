#!/usr/bin/env bash
# Installs the Debian packages that the tests need: Postgres' server binaries, of which they start one of their own.
# TEST_POSTGRES_VERSION=18 takes that version from PostgreSQL's own package archive.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
  echo "The tests need Postgres 15 or newer in /usr/lib/postgresql; install it by hand on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
# No cluster of the system's own: nothing is to run beside the tests.
"${as_root[@]}" apt-get install -y -qq --no-install-recommends postgresql-common
"${as_root[@]}" sed -i "s/^#\?create_main_cluster.*/create_main_cluster = false/" /etc/postgresql-common/createcluster.conf
version=${TEST_POSTGRES_VERSION:-}
if [ -n "$version" ]; then "${as_root[@]}" /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y; fi
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "postgresql${version:+-$version}"
