#!/bin/sh
# Generates the passwords and keys that the compose files read: make-secrets.sh [FOLDER], by default secrets/ next to this
# script. Existing files are kept, so running it again changes nothing. Put the keys of model providers into openai_api_key
# and anthropic_api_key; empty means no key.
set -eu
umask 077

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
# The files are world-readable, because the containers run as different users. The folder's mode denies access to other
# users of this machine.
chmod 0700 "$folder"

# Writes stdin to a file, unless the file exists.
write_if_missing() {
  if [ -e "$folder/$1" ]; then
    cat >/dev/null
    return
  fi
  # Write a temporary file first, so a full disk never leaves a partial file.
  cat >"$folder/.$1.new"
  mv "$folder/.$1.new" "$folder/$1"
  echo "wrote $folder/$1"
}
# Prints 32 random bytes in hexadecimal, because they are used in URLs and configuration files.
generate_hex() {
  hex=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
  [ "${#hex}" -eq 64 ] || { echo "make-secrets.sh: can't read random bytes from /dev/urandom." >&2; exit 1; }
  echo "$hex"
}
create_secret() {
  value=$(generate_hex)
  echo "$value" | write_if_missing "$1"
}

create_secret jwt_secret
create_secret metrics_token
create_secret postgres_password
create_secret postgres_superuser_password
create_secret grafana_admin_password
if [ ! -e "$folder/valkey_conf" ]; then
  value=$(generate_hex)
  echo "requirepass $value" | write_if_missing valkey_conf
fi
postgres_password=$(cat "$folder/postgres_password")
valkey_password=$(sed -n 's/^requirepass //p' "$folder/valkey_conf")
echo "postgres://parley:$postgres_password@postgres:5432/parley" | write_if_missing database_url
echo "redis://:$valkey_password@valkey:6379" | write_if_missing redis_url
write_if_missing openai_api_key </dev/null
write_if_missing anthropic_api_key </dev/null

chmod 0644 "$folder"/*
echo "The secrets are in $folder. Keep a copy of jwt_secret: with a different one, all users must log in again."
