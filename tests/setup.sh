#!/bin/sh
# Installs what building, testing and the demo need: Debian packages, and Go where it is missing or too old. Quick when
# everything is there; it changes nothing then.
#
#	tests/setup.sh demo	what `make` and `make demo` need
#	tests/setup.sh bench	also what `make bench` needs
#	tests/setup.sh test	also what `make test` and `make lint` need
set -eu
cd "$(dirname "$0")/.."

die() {
	echo "setup: $*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root to run: $*
Become root, or install sudo, and try again."
	fi
}

# have tells whether a command is in PATH (a user's sbin directories may not be), or a file exists.
have() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

# missing prints the packages of those "command=package" or "file=package" whose left side isn't there. Whoever has runc
# or crun from elsewhere keeps it.
missing() {
	for pair; do
		have "${pair%%=*}" || echo "${pair#*=}"
	done
}

# hold_services has packages start no service, Docker's above all, as long as this script runs.
hold_services() {
	policy=/usr/sbin/policy-rc.d
	[ ! -e $policy ] || return 0
	printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
	trap 'as_root rm -f "$policy"' EXIT
	as_root chmod +x $policy
}

# install installs packages, but not at the cost of others: runc from Debian, say, would push out Docker's containerd.io.
# Only busybox may go, for busybox-static has all of it.
install() {
	command -v apt-get >/dev/null || die "these Debian packages are missing, and there is no apt-get here: $*"
	export DEBIAN_FRONTEND=noninteractive
	# Lists may be missing, or so old that they name packages that are gone.
	if ! removed=$(apt-get -s install --no-install-recommends "$@" 2>/dev/null) ||
		! as_root apt-get -qq -y --download-only --no-install-recommends install "$@" >/dev/null 2>&1; then
		as_root apt-get -qq update
		removed=$(apt-get -s install --no-install-recommends "$@") || die "apt-get can't install: $*"
	fi
	removed=$(echo "$removed" | sed -n 's/^Remv \([^ ]*\).*/\1/p' | grep -vx busybox || true)
	[ -z "$removed" ] || die "installing $* would remove $removed; install them by hand if you want that"
	echo "setup: installing $*"
	hold_services
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" >/dev/null
}

packages() {
	missing git=git jq=jq runc=runc crun=crun unshare=util-linux ps=procps /etc/ssl/certs/ca-certificates.crt=ca-certificates
	# A root file system of one file needs it without shared libraries.
	if ! have busybox || ldd "$(PATH=$PATH:/usr/sbin:/sbin command -v busybox)" >/dev/null 2>&1; then
		echo busybox-static
	fi
	[ "$1" != demo ] || return 0
	missing dockerd=docker.io ip=iproute2 iptables=iptables
	[ "$1" = test ] || return 0
	# gcc and libc6-dev are for the race detector.
	missing gcc=gcc /usr/include/stdlib.h=libc6-dev shellcheck=shellcheck mandoc=mandoc newuidmap=uidmap mount=mount
	missing /usr/include/seccomp.h=libseccomp-dev pkg-config=pkgconf zsh=zsh fish=fish qemu-system-x86_64=qemu-system-x86 dpkg-deb=dpkg
	missing apparmor_parser=apparmor secilc=secilc dbus-daemon=dbus-daemon
	missing containerd=containerd podman=podman buildah=buildah conmon=conmon catatonit=catatonit
	missing /usr/lib/cni/bridge=containernetworking-plugins
}

# go_is_new_enough runs go in the module: from Go 1.21 on, GOTOOLCHAIN=auto makes it fetch the version that go.mod names.
go_is_new_enough() {
	found=$(go version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p')
	[ -n "$found" ] && [ "$(printf '%s\n' "$want" "$found" | sort -V | head -n 1)" = "$want" ]
}

# fetch_go gets Go itself from the Go proxy, as a newer go command would; Debian 12's is too old to. The module cache keeps no
# execute bits and no go.mod below src.
fetch_go() {
	arch=$(go env GOARCH)
	echo "setup: fetching Go $want from the Go proxy into .cache/go"
	mkdir -p .cache
	dir=$(cd / && go mod download -json "golang.org/toolchain@v0.0.1-go$want.linux-$arch" |
		sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p')
	[ -d "$dir" ] || die "could not fetch Go $want: install it from https://go.dev/dl/ and put it in PATH"
	rm -rf .cache/go.new
	cp -r "$dir" .cache/go.new
	chmod -R u+w .cache/go.new
	chmod +x .cache/go.new/bin/* .cache/go.new/pkg/tool/*/*
	cp .cache/go.new/src/_go.mod .cache/go.new/src/go.mod
	mv .cache/go.new .cache/go
	hash -r
}

# build_containerd builds a recent containerd with its ctr and runc's shim, for the tests of our shim. Debian's is years older.
build_containerd() {
	version=v2.4.2
	dir=$PWD/.cache/containerd
	[ "$(cat "$dir/version" 2>/dev/null)" != "$version, shim" ] || return 0
	echo "setup: building containerd $version from the Go proxy"
	rm -rf "$dir"
	source=github.com/containerd/containerd/v2/cmd
	CGO_ENABLED=0 GOBIN=$dir go install $source/containerd@$version $source/ctr@$version $source/containerd-shim-runc-v2@$version ||
		die "could not build containerd"
	echo "$version, shim" >"$dir/version"
}

# build_runc builds a recent runc, to compare with where Debian's is too old: for Docker 29's time namespaces.
build_runc() {
	version=v1.5.2
	dir=$PWD/.cache/runc
	[ "$(cat "$dir/version" 2>/dev/null)" != $version ] || return 0
	echo "setup: building runc $version from the Go proxy"
	rm -rf "$dir"
	CGO_ENABLED=1 GOBIN=$dir go install -tags netgo,osusergo,seccomp github.com/opencontainers/runc@$version || die "could not build runc"
	echo $version >"$dir/version"
}

# build_docker builds a recent Docker: dockerd without what the tests don't use (the containerd in it, and graph drivers), and
# the docker command.
build_docker() {
	version=v2.0.0-beta.24 # of 29's modules
	cli=29.9.3
	dir=$PWD/.cache/docker
	[ "$(cat "$dir/version" 2>/dev/null)" != "$version, $cli" ] || return 0
	echo "setup: building Docker $cli from the Go proxy"
	rm -rf "$dir"
	CGO_ENABLED=0 GOBIN=$dir go install -ldflags "-s -w -X github.com/moby/moby/v2/dockerversion.Version=29-$version" \
		-tags netgo,osusergo,no_embedded_containerd,exclude_graphdriver_btrfs,exclude_graphdriver_zfs,exclude_graphdriver_fuseoverlayfs \
		github.com/moby/moby/v2/cmd/dockerd@$version github.com/moby/moby/v2/cmd/docker-proxy@$version ||
		die "could not build Docker's daemon"
	build_docker_cli || die "could not build the docker command"
	echo "$version, $cli" >"$dir/version"
}

# build_docker_cli builds the docker command, whose module calls its go.mod and go.sum by other names. The proxy doesn't serve
# the version of swarmkit that is in there, but that of dockerd.
build_docker_cli() {
	source=$(cd / && go mod download -json "github.com/docker/cli@v$cli+incompatible" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p')
	swarmkit=$(go version -m "$dir/dockerd" | sed -n 's/^[[:space:]]*dep[[:space:]]*\(github.com\/moby\/swarmkit\/v2\)[[:space:]]*\(v[^[:space:]]*\).*/\1@\2/p')
	[ -d "$source" ] && [ -n "$swarmkit" ] || return 1
	cp -r "$source" "$dir/cli" && chmod -R u+w "$dir/cli" || return 1
	(
		cd "$dir/cli" && mv vendor.mod go.mod && mv vendor.sum go.sum && go mod edit -require "$swarmkit" &&
			CGO_ENABLED=0 go build -mod=mod -buildvcs=false -tags netgo,osusergo \
				-ldflags "-s -w -X github.com/docker/cli/cli/version.Version=$cli" -o ../docker ./cmd/docker
	) && rm -rf "$dir/cli"
}

case ${1-} in
demo | bench | test) ;;
*) die "usage: setup.sh demo|bench|test" ;;
esac
what=$1
# shellcheck disable=SC2046 # one word a package
set -- $(packages "$what")
[ $# -eq 0 ] || install "$@"

want=$(sed -n 's/^go \([0-9.]*\)$/\1/p' go.mod)
PATH=$PWD/.cache/go/bin:$PATH
export PATH GOTOOLCHAIN="${GOTOOLCHAIN:-auto}"
go_is_new_enough || command -v go >/dev/null || install golang-go
go_is_new_enough || fetch_go
go_is_new_enough || die "Go $want or newer is needed, $(command -v go) is ${found:-missing}: get it from https://go.dev/dl/"

[ "$what" = demo ] || build_containerd
[ "$what" != test ] || {
	build_runc
	build_docker
}
