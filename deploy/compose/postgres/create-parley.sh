#!/bin/sh
# Run once by the image of Postgres, while the volume is empty: Parley's own role, which is no superuser, and its database.
set -eu

# read, and not an argument: the list of processes shows no password. The file ends with a newline.
read -r password </run/secrets/postgres_password
export password
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\getenv password password
create role parley login password :'password';
create database parley owner parley;
SQL
