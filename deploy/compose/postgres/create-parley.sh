#!/bin/sh
# Creates Parley's role, which is not a superuser, and its database. The Postgres image runs it once, when the volume is
# empty.
set -eu

# `read` instead of an argument, so that the process list doesn't show the password. The file ends with a newline.
read -r password </run/secrets/postgres_password
export password
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres <<'SQL'
\getenv password password
create role parley login password :'password';
create database parley owner parley;
SQL
