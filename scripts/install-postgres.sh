#!/usr/bin/env bash
# Installs Debian's Postgres packages for the tests, which start their own servers.
# With TEST_POSTGRES_VERSION=18, installs that version from PostgreSQL's package archive.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
  echo "The tests need Postgres 15 or newer in /usr/lib/postgresql; install it manually on this system." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
# Don't let the package create a default cluster and start it: the tests don't use it.
"${as_root[@]}" apt-get install -y -qq --no-install-recommends postgresql-common
"${as_root[@]}" sed -i "s/^#\?create_main_cluster.*/create_main_cluster = false/" /etc/postgresql-common/createcluster.conf
version=${TEST_POSTGRES_VERSION:-}
if [ -n "$version" ]; then "${as_root[@]}" /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y; fi
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "postgresql${version:+-$version}"
