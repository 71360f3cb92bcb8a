#!/bin/sh
# usage: restore-without-warmspare.sh VAULT/systems/SYSTEM IDENTITY BODY KIND NAME > FILE
# Writes one stream of a snapshot, with nothing but age and zstd.
set -eu
system=$1 identity=$2 body=$3 kind=$4 name=$5
epoch=$(basename "$body" | cut -d- -f1-2)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; chmod 700 "$work"
for secrets in "$system/epochs/$epoch"/secrets-*.age; do
    age -d -i "$identity" "$secrets" > "$work/epoch" || continue    # sealed to others: before or after a re-key
    grep -q "\"$(age-keygen -y "$work/epoch")\"" "$system/epochs/$epoch/epoch.json" && break    # else not this epoch's
done
age -d -i "$work/epoch" "$body" | zstd -dc > "$work/body"
awk -F '\t' -v kind="$kind" -v name="$name" '
    $1 == "stream" { mine = ($2 == kind && $3 == name) }
    $1 == "extent" && mine { print $2, $5, $6 }' "$work/body" |
while read -r pack offset bytes; do
    plain="$work/$pack"
    [ -e "$plain" ] || age -d -i "$work/epoch" "$system/epochs/$epoch/packs/$(printf %.2s "$pack")/$pack.age" |
        zstd -dc > "$plain"
    tail -c "+$((offset + 1))" "$plain" | head -c "$bytes"
done
