#!/bin/sh
# Writes the secrets that compose.yaml and compose.prod.yaml mount, each in a file of its own; keeps those that exist.
#
#   infra/secrets.sh [FOLDER]      FOLDER: `secrets` beside this folder's parent; SPINDLE: the command line to call
#
# The folder is closed to others (0700). The files in it are readable (0644), because compose mounts them one by one, as
# they are, into containers whose users are not yours.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../secrets}
spindle=${SPINDLE:-spindle}

umask 022
mkdir -p "$folder"
chmod 0700 "$folder"
folder=$(cd "$folder" && pwd)

random() { # 48 hexadecimal digits: safe in URLs, JSON and configuration files
    od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n'
}

keep() { # keep NAME TEXT: written at once or not at all, never over an existing file, without a newline
    [ ! -s "$folder/$1" ] || return 0
    printf '%s' "$2" >"$folder/.$1.new"
    mv "$folder/.$1.new" "$folder/$1"
    echo "wrote $folder/$1"
}

value() { cat "$folder/$1"; }

keep redis_password "$(random)"
keep postgres_password "$(random)"
keep minio_root_user "spindle"
keep minio_root_password "$(random)"
keep grafana_admin_password "$(random)"
keep spindle_metrics_key "$(random)"

keep redis_auth "requirepass $(value redis_password)"
keep spindle_redis_url "redis://:$(value redis_password)@redis:6379/0"
keep spindle_s3_url "http://$(value minio_root_user):$(value minio_root_password)@minio:9000/spindle"
keep spindle_database_url "postgresql+asyncpg://spindle:$(value postgres_password)@postgres:5432/spindle"
keep redisinsight_databases "$(printf \
    '[{"id": "spindle", "name": "Spindle", "host": "redis", "port": 6379, "username": "default", "password": "%s"}]' \
    "$(value redis_password)")"

api_key() { # api_key NAME FILE: only its hash goes to api_keys; the key itself into a file for whoever is to use it
    [ ! -s "$folder/$2" ] || return 0
    made=$(SPINDLE_API_KEYS_FILE="$folder/api_keys" "$spindle" keys create "$1")
    key=$(printf '%s' "$made" | grep -o 'spindle_[0-9a-f]\{12\}_[A-Za-z0-9_-]\{43\}' | head -n 1)
    if [ -z "$key" ]; then
        echo "secrets.sh: \`$spindle keys create $1\` printed no key" >&2
        exit 1
    fi
    keep "$2" "$key"
}

if ! command -v "$spindle" >/dev/null; then
    echo "secrets.sh: no \`$spindle\` to make API keys with: install Spindle, or set SPINDLE to its path" >&2
    exit 1
fi
api_key prometheus prometheus_api_key
api_key me api_key
# Hashes of long random keys; the command line keeps them to their owner, who is nobody in the containers.
chmod 0644 "$folder/api_keys"
