# make help lists what there is.

PREFIX  ?= /usr/local
VERSION ?= 0.1.0-dev
COMMIT  ?= $(shell git describe --always --abbrev=40 --dirty --match= 2>/dev/null)

# Go is the one that tests/setup.sh fetched, if it had to. From 1.21 on, Go fetches the version that go.mod names by itself.
export PATH := $(CURDIR)/.cache/go/bin:$(PATH)
export GOTOOLCHAIN ?= auto

# The CLI library pulls in a Markdown parser and a speller without its two tags: 0.3 ms of each start. The others keep C
# out of name and user look-ups.
TAGS    := urfave_cli_no_docs,urfave_cli_no_suggest,netgo,osusergo
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
BUILD   := CGO_ENABLED=0 go build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)'

GOFUMPT     := .cache/tools/gofumpt-v0.12.0
STATICCHECK := .cache/tools/staticcheck-v0.8.2
GODIRS      := $(wildcard cmd libsock shim spec tests contrib)
SCRIPTS     := .ci/run tests/setup.sh tests/fuzz.sh tests/demo/demo.sh tests/vm/kernel.sh tests/vm/systemd.sh tests/vm/init

# Tests and the demo need root; test binaries alone run with it. Where a machine lacks something, a test is skipped; with
# SOCK_TEST_STRICT=1, as in CI, it fails if what is lacking could have been installed.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo -E env "PATH=$(PATH)")
TEST := go test -timeout 30m -tags $(TAGS) $(if $(SUDO),-exec '$(SUDO)')
ifdef CI
export SOCK_TEST_STRICT ?= 1
endif

# The fuzz tests of what is read that others may have written: config.json to its plan, exec's --process, mount options,
# seccomp profiles, state files.
FUZZ ?= Fuzz(Build|BuildExec|ParseMountOptions|Compile|Read)

# Measurements: rounds, a file for the JSON, and which parts, of run,life,exec,task,task-exec,memory,docker.
BENCH_ROUNDS ?= 200
BENCH_JSON   ?=
BENCH_ONLY   ?=
FUZZTIME     ?= 1m

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all demo test test-unit test-integration test-vm test-race test-noopt test-seccomp conformance lint bench fuzz setup setup-demo setup-bench install generate clean help FORCE

PROGRAMS := bin/sock bin/containerd-shim-sock-v1 bin/sock-shimd

all: $(PROGRAMS) ## build bin/sock and the two programs of the containerd shim, static (the default)

$(PROGRAMS): FORCE
	@$(BUILD) -o $@ ./cmd/$(@F)

bin/sock-bench: FORCE
	@CGO_ENABLED=0 go build -trimpath -tags netgo,osusergo -o $@ ./tests/bench

bin/bench/containerd-shim-nothing-v1: FORCE
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@ ./tests/bench/nothing

demo: setup-demo bin/sock bin/sock-bench ## set up, build, run real containers and show what happens
	@$(SUDO) tests/demo/demo.sh bin/sock bin/sock-bench

test: setup bin/sock lint test-race test-noopt test-seccomp fuzz ## set up, then lint and every test, as CI does
	$(TEST) -count=1 -p 1 ./...

test-unit: ## the tests beside the code: quick, most need no root
	$(TEST) ./cmd/... ./libsock/... ./shim/... ./spec/...

test-integration: bin/sock ## the tests that run bin/sock on real bundles and in real engines, as root
	$(TEST) -count=1 -p 1 ./tests/integration ./tests/engines ./tests/cri

test-vm: ## the tests in a virtual machine: an older kernel, cgroup v2 only (SOCK_TEST_VM_RUN picks tests)
	go test -timeout 30m -count=1 ./tests/vm

test-race: ## the library's and the worker's tests under the race detector: the child must not run what it instruments
	$(TEST) -race -count=1 ./libsock/... ./shim/events ./shim/link ./shim/task ./tests/inprocess ./tests/shim

test-noopt: ## the library's tests without optimisation: the child must not grow its stack
	$(TEST) -gcflags='all=-N -l' -count=1 ./libsock/...

test-seccomp: ## compare the seccomp compiler with libseccomp on random profiles
	CGO_ENABLED=1 go test -tags libseccomp -count=1 -run Libseccomp ./libsock/seccomp -cases 10000000

conformance: setup bin/sock ## run the OCI's validation suite on sock, runc and crun (UPDATE=1 writes docs/conformance.md)
	SOCK_BINARY=$(CURDIR)/bin/sock $(TEST) -count=1 -v -run TestSuite ./tests/conformance $(if $(UPDATE),-update)

lint: $(GOFUMPT) $(STATICCHECK) ## formatting, vet, staticcheck, go.mod, shellcheck, import rules
	@files=$$($(GOFUMPT) -l $(GODIRS)) && if [ -n "$$files" ]; then echo "not formatted by gofumpt:" $$files; exit 1; fi
	go vet -tags $(TAGS) ./...
	$(STATICCHECK) -tags $(TAGS) ./...
	go mod tidy -diff
	shellcheck $(SCRIPTS)
	go test -count=1 ./tests/archtest

$(GOFUMPT):
	@mkdir -p $(@D) && GOBIN=$(CURDIR)/.cache/tools go install mvdan.cc/gofumpt@v0.12.0 && mv $(@D)/gofumpt $@

$(STATICCHECK):
	@mkdir -p $(@D) && GOBIN=$(CURDIR)/.cache/tools go install honnef.co/go/tools/cmd/staticcheck@v0.8.2 && mv $(@D)/staticcheck $@

bench: setup-bench $(PROGRAMS) bin/sock-bench bin/bench/containerd-shim-nothing-v1 ## measure commands, shims and docker run beside runc and crun (BENCH_ROUNDS, BENCH_ONLY, BENCH_JSON)
	@$(SUDO) bin/sock-bench -rounds $(BENCH_ROUNDS) -only '$(BENCH_ONLY)' $(if $(BENCH_JSON),-json $(BENCH_JSON))

fuzz: ## run the fuzz tests for FUZZTIME each, two at a time (FUZZ='.*' runs all of them)
	@tests/fuzz.sh $(FUZZTIME) '$(FUZZ)' $(GODIRS)

setup: ## install what building and testing need: Debian packages, and Go if it is too old
	@tests/setup.sh test

setup-demo setup-bench: setup-%:
	@tests/setup.sh $*

install: $(PROGRAMS) ## install into PREFIX, with man pages and completion (DESTDIR is honoured)
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/sbin bin/sock
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin bin/containerd-shim-sock-v1 bin/sock-shimd
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man8 contrib/man/*.8
	install -D -m 0644 contrib/completion/sock.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/sock
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/zsh/site-functions contrib/completion/_sock
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d contrib/completion/sock.fish

generate: ## write man pages and completion anew, from the commands
	go generate ./cmd/sock

clean: ## remove what was built, fetched and cached
	rm -rf bin dist
	if [ -d .cache ]; then chmod -R u+w .cache && rm -rf .cache; fi

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
