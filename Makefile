# veth: make help
GO            ?= go
DESTDIR       ?=
CNI_BIN       ?= /opt/cni/bin
BINDIR        ?= /usr/local/bin
FUZZTIME      ?= 10s
GOLANGCI_LINT ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)

# A user without a home that can be written gets one for Go's caches, below bin/ where git does not look.
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/bin/.home
endif

# The race detector needs cgo and so a C compiler. CI must have one.
RACE := $(shell command -v "$$($(GO) env CC 2>/dev/null)" >/dev/null 2>&1 && echo -race)

.PHONY: help build test demo bench bench-short bench-data lint platforms fuzz install clean

help: ## list the targets
	@echo 'Wants Go 1.25 or later and, the first time, its module proxy; the tests also ip, nft, strace, a C compiler.'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What the installed binaries are made of.
SOURCES := go.mod go.sum $(shell find pkg plugins -name '*.go' ! -name '*_test.go')

build: ## static binaries in bin/: the plugin, and cnitool to drive it by hand
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' \
		-o bin/ ./plugins/... github.com/containernetworking/cni/cnitool
	@touch bin/veth bin/vethctl # the linker leaves alone what would come out the same

test: build ## every test, as any user, in namespaces of their own; go test -v ./... shows what is skipped
ifeq ($(RACE),)
	@echo "no C compiler: the tests run without the race detector" >&2; test "$$CI" != true
endif
	$(GO) test $(RACE) -timeout 10m ./...

demo: build ## two containers on one node, from ADD to DEL
	@CGO_ENABLED=0 $(GO) run -trimpath ./test/demo # as built above: nothing is compiled twice

BENCH = CGO_ENABLED=0 $(GO) run -trimpath ./test/bench

bench: build ## time and cost of ADD and DEL beside the reference plugins, to docs/bench; ten quiet minutes
	$(BENCH) -o docs/bench

bench-data: build ## what passes between two containers, beside the reference bridge, to docs/bench; a quarter of an hour
	$(BENCH)/data -o docs/bench

bench-short: build ## the same in half a minute: that it works, not how fast
	$(BENCH) -short
	$(BENCH)/data -short

lint: ## golangci-lint with .golangci.yml, which is built the first time (two minutes)
	$(GO) run $(GOLANGCI_LINT) run ./...

platforms: ## go vet for other processors, 32-bit and big-endian ones too; as 386 the tests of pkg/, if the kernel can
	for arch in 386 arm arm64 s390x; do GOARCH=$$arch $(GO) vet ./... || exit 1; done
	@if GOARCH=386 $(GO) test -run '^$$' ./pkg/cnierr >/dev/null 2>&1; then \
		GOARCH=386 $(GO) test -timeout 10m ./pkg/...; \
	else echo "this kernel runs no 386 programs: no test has run as one" >&2; fi

fuzz: ## each fuzz target for FUZZTIME
	@for package in $$($(GO) list ./pkg/...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

# For install, which wants no Go where bin/ is current: the PATH that sudo sets seldom has it.
bin/veth: $(SOURCES)
	@$(MAKE) build

bin/vethctl: bin/veth
	@test -x $@ || $(MAKE) build

install: bin/veth bin/vethctl ## bin/veth to $(DESTDIR)$(CNI_BIN), bin/vethctl to $(DESTDIR)$(BINDIR), usually as root
	install -D -m 755 bin/veth $(DESTDIR)$(CNI_BIN)/veth
	install -D -m 755 bin/vethctl $(DESTDIR)$(BINDIR)/vethctl

clean: ## remove bin/
	@if [ -d bin ]; then chmod -R u+w bin; fi
	rm -rf bin
