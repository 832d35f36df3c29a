#!/bin/sh
# Fetches Debian's cloud kernel and unpacks it into a directory: boot/vmlinuz-* and lib/modules. Nothing is installed.
#
#	kernel.sh directory
set -eu

[ $# -eq 1 ] || { echo "usage: kernel.sh directory" >&2; exit 2; }
mkdir -p "$1"
work=$(mktemp -d "$1.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The package of this name has the newest kernel of the release as its only dependency.
package=$(apt-cache depends --important linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p')
[ -n "$package" ] || { echo "kernel.sh: apt knows no linux-image-cloud-amd64: is this Debian, and did apt-get update run?" >&2; exit 1; }
(
	cd "$work"
	# It warns that it is not sandboxed: apt's own user may not write here.
	apt-get -qq download "$package" 2>log || { cat log >&2; exit 1; }
	dpkg-deb -x ./*.deb unpacked
)
rm -rf "$1"
mv "$work/unpacked" "$1"
