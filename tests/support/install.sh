#!/bin/sh
# Installs what `make demo`, `test` or `bench` needs from Debian's packages, and says what. Needs nothing but /bin/sh and
# apt-get; run as root, or as a user with sudo. Does nothing, and asks for no password, when everything is there.
# For `test` and `bench` it then calls postgres-servers.sh beside it, which brings PostgreSQL servers that Debian 12 does not have.
set -eu

case "${1:-}" in
bench) wanted="gcc libc6-dev postgresql-15 python3-pip ca-certificates curl rclone restic time util-linux" ;;
demo) wanted="gcc libc6-dev ca-certificates postgresql-15 util-linux" ;;
test) wanted="gcc g++ libc6-dev ca-certificates git curl postgresql-15 util-linux age zstd openssh-client python3-pip ceph-mon ceph-osd ceph-mgr radosgw ceph-common etcd-server haproxy nginx-light caddy keepalived iproute2 nftables prometheus python3-jsonschema python3-aiosmtpd" ;;
*)
    echo "usage: $0 demo|test|bench" >&2
    exit 2
    ;;
esac

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

command -v cargo >/dev/null || fail "there is no cargo; install a Rust toolchain first: https://rustup.rs"
command -v apt-get >/dev/null || fail "this is not Debian; install the equivalents of: $wanted, and call cargo as the Makefile does"

# What is no Debian package comes last, when the programs that bring it are there.
further_servers() {
    [ "$1" = demo ] || "$(dirname "$0")/postgres-servers.sh"
}

missing=""
for package in $wanted; do
    is_installed "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
    further_servers "$1"
    exit 0
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "these packages are missing:$missing; run this as root, or install sudo"
    as_root="sudo"
fi

log=$(mktemp)
no_cluster=/etc/postgresql-common/createcluster.d/warmspare.conf
no_service=/usr/sbin/policy-rc.d
ours=""
clean_up() {
    rm -f "$log"
    [ ! -e "$no_cluster" ] || $as_root rm -f "$no_cluster"
    [ -z "$ours" ] || $as_root rm -f "$no_service"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Quiet while all is well; when it is not, everything apt said.
apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 && return
    cat "$log" >&2
    fail "apt-get $* failed; its words are above"
}

echo "installing Debian packages:$missing"
apt update

# Debian's server package makes and starts a server of its own unless told otherwise, and nobody asked for one. The
# folder belongs to postgresql-common, which may not be there yet.
case "$missing" in
*postgresql-15*)
    $as_root mkdir -p "${no_cluster%/*}"
    echo "create_main_cluster = false" | $as_root tee "$no_cluster" >/dev/null
    ;;
esac
# Nor does anybody want etcd, HAProxy, nginx, Caddy or keepalived to run on this machine because tests start them (invoke-rc.d(8)).
if [ ! -e "$no_service" ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$no_service" >/dev/null
    $as_root chmod 755 "$no_service"
fi
# shellcheck disable=SC2086 # a list of packages
apt install --no-install-recommends $missing
for package in $missing; do
    is_installed "$package" || fail "$package was installed, but dpkg does not say so"
done
further_servers "$1"
