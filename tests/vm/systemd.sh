#!/bin/sh
# Fetches Debian's systemd and all that it depends on, and unpacks it into a directory. Nothing is installed.
#
#	systemd.sh directory
set -eu

[ $# -eq 1 ] || { echo "usage: systemd.sh directory" >&2; exit 2; }
mkdir -p "$1"
work=$(mktemp -d "$1.XXXXXX")
trap 'rm -rf "$work"' EXIT

# What apt would install where nothing is.
: >"$work/status"
packages=$(apt-get -qq -o "Dir::State::status=$work/status" --no-install-recommends --print-uris install systemd |
	sed -n "s/^'[^']*' \([^_]*\)_.*/\1/p")
[ -n "$packages" ] || { echo "systemd.sh: apt knows no systemd: is this Debian, and did apt-get update run?" >&2; exit 1; }
(
	cd "$work"
	# It warns that it is not sandboxed: apt's own user may not write here.
	# shellcheck disable=SC2086 # one word a package
	apt-get -qq download $packages 2>log || { cat log >&2; exit 1; }
	for deb in ./*.deb; do
		dpkg-deb -x "$deb" unpacked
	done
	cd unpacked
	rm -rf usr/share lib/udev usr/lib/x86_64-linux-gnu/gconv usr/lib/x86_64-linux-gnu/perl-base var
)
rm -rf "$1"
mv "$work/unpacked" "$1"
