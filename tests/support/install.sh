#!/bin/sh
# Installs what `make demo` or `make test` needs from Debian's packages, and says what.
set -eu

case "${1:-}" in
demo) wanted="gcc libc6-dev ca-certificates postgresql-15 util-linux" ;;
test) wanted="gcc libc6-dev ca-certificates curl postgresql-15 util-linux age zstd ceph-mon ceph-osd ceph-mgr radosgw ceph-common" ;;
*) echo "usage: $0 demo|test" >&2; exit 2 ;;
esac

missing=""
for package in $wanted; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $package"
done
if [ -z "$missing" ]; then
    exit 0
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "needed:$missing; run as root, or install sudo" >&2; exit 1; }
    as_root="sudo"
fi
echo "installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq

# Debian's package makes and starts a server of its own; nobody asked for one.
case "$missing" in
*postgresql-15*)
    $as_root apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null
    echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.d/warmspare.conf >/dev/null
    ;;
esac
# shellcheck disable=SC2086 # a list of packages
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
$as_root rm -f /etc/postgresql-common/createcluster.d/warmspare.conf
