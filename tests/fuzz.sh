#!/bin/sh
# Runs the fuzz tests whose names match a pattern, each for a while, two at a time on one processor each.
#
#	tests/fuzz.sh 1m 'Fuzz.*' DIRECTORY...
set -eu
cd "$(dirname "$0")/.."

# one runs a single test. Before 1.27, Go may report its own deadline as a failure (go.dev/issue/75804); what it finds it writes
# down.
one() {
	echo "fuzz: $3 of $2 for $1"
	if ! out=$(go test -run '^$' -fuzz "^$3\$" -fuzztime "$1" -fuzzminimizetime 100x -parallel 1 "$2" 2>&1); then
		case $out in
		*"Failing input"*) ;;
		*"context deadline exceeded"*) return ;;
		esac
		echo "$out"
		exit 255 # xargs then starts no more
	fi
}

if [ "$1" = one ]; then
	shift
	one "$@"
	exit
fi
time=$1 pattern=$2
shift 2
grep -ro --include='*_test.go' '^func Fuzz[A-Za-z]*' "$@" | sed 's|^\(.*\)/[^/]*:func |./\1 |' | sort -u | grep -E " ($pattern)\$" |
	xargs -r -P 2 -L 1 tests/fuzz.sh one "$time"
