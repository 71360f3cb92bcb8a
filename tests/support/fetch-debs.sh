#!/bin/sh
# Unpacks Debian packages of another suite, and all they depend on, into a folder, without installing anything: no root,
# no maintainer scripts, apt's state of its own. Takes the mirror this machine uses. usage: fetch-debs.sh SUITE DIR PACKAGE...
set -eu

suite=$1
root=$2
shift 2

mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ')
[ -n "$mirror" ] || { echo "fetch-debs.sh: no Debian mirror in apt's sources" >&2; exit 1; }
echo "fetch-debs.sh: unpacking $* of Debian $suite from $mirror into $root" >&2

apt=$root.apt
trap 'rm -rf "$apt"' EXIT
mkdir -p "$root" "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources" "$apt/preferences"
: >"$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<END
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/sources";
Dir::Etc::preferencesparts "$apt/preferences";
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Debug::NoLocking "true";
END
export APT_CONFIG="$apt/apt.conf"
apt-get -qq update >&2
apt-get -qq -y --download-only install libc6 "$@" >&2

# The packages expect /bin, /lib and so on to be links into /usr, as on every Debian of today.
mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/usr/sbin" "$root/usr/lib64"
for folder in bin lib sbin lib64; do
    [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"
done
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink --no-same-owner \
        --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale
done
