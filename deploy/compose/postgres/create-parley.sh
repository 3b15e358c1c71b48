#!/bin/sh
# Run once by the Postgres image, when the volume is empty. Creates Parley's role, which is not a superuser, and its database.
set -eu

# `read` instead of an argument, so the process list shows no password. The file ends with a newline.
read -r password </run/secrets/postgres_password
export password
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\getenv password password
create role parley login password :'password';
create database parley owner parley;
SQL
