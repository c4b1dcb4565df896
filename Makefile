# make help lists the targets. Tests that need systemd and cgroup v2 run in throw-away virtual machines: the package
# comment of deploy/testbed says how.

SUITE     ?= trixie
PKG       ?= ./...
RUN       ?=
AS        ?= root
BENCH     ?= .
FUZZTIME  ?= 10s
PREFIX    ?= /usr
DESTDIR   ?=

VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
CACHE     := $(or $(LICTOR_TESTBED_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lictor-testbed)
GOLANGCI_VERSION := v2.15.0
GOLANGCI  := $(CACHE)/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
TESTBED   := bin/testbed

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo 'Variables: SUITE=bookworm|trixie|sid PKG=./scope RUN=TestName BENCH=regexp FUZZTIME=1m'

.PHONY: build
build: ## Build bin/lictor
	CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags '-s -w -X main.version=$(VERSION)' -o bin/lictor ./cmd/lictor

# For make install, which root does and which must not need Go: it builds only what is not there or older than the source.
bin/lictor: go.mod go.sum $(shell find cgroup cmd events migrations scope watcher -name '*.go' -o -name '*.sql')
	@$(MAKE) --no-print-directory build

.PHONY: install
install: bin/lictor ## Install lictor (PREFIX=/usr, DESTDIR=): binary, units, configuration, manual, completions
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' LICTOR=bin/lictor deploy/install.sh install

.PHONY: uninstall
uninstall: ## Remove what make install put there; keeps configuration and records, and ends no run
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' deploy/install.sh uninstall

.PHONY: testbed
testbed:
	@CGO_ENABLED=0 go build -o $(TESTBED) ./deploy/testbed

.PHONY: lint
lint: testbed $(GOLANGCI) ## Check the formatting and run the linters
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then printf 'not formatted:\n%s\nhint: gofmt -w .\n' "$$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags integration,browse ./...
	$(GOLANGCI) run ./...
	@$(TESTBED) need mypy
	mypy --strict --cache-dir=/dev/null clients/python/lictor.py

# Built apart from our go.mod, as its authors did: go install with a version ignores the module of the directory.
$(GOLANGCI):
	@echo 'golangci-lint $(GOLANGCI_VERSION): compiling it, once; this takes minutes'
	GOFLAGS= CGO_ENABLED=0 GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

.PHONY: test
test: test-unit test-vm test-browser ## Run all tests: on this machine, then in guests

.PHONY: test-unit
test-unit: testbed ## Run the tests that need no guest, with the race detector
	@$(TESTBED) need gcc pg_ctlcluster chromium
	CGO_ENABLED=1 go test -race $(PKG)

.PHONY: test-vm
test-vm: testbed ## Run the integration tests in fresh guests, bookworm and trixie
	@$(TESTBED) run --together --guests 4 --suite bookworm,trixie $(if $(RUN),--run '$(RUN)') $(PKG)

.PHONY: test-browser
test-browser: build testbed ## Look at lictor in a fresh guest with a browser on this machine
	@$(TESTBED) browse

.PHONY: test-long
test-long: testbed ## Run the tests that can take larger counts with those, in fresh guests: 100 runs through 20 kills, 1,000 live ones, 5,000 short ones, 400 kills by the kernel, 50 power failures, a million events, 500 listeners to 10,000
	@LICTOR_TEST_LONG=1 $(TESTBED) run --together --suite bookworm,trixie --run '$(or $(RUN),^(TestK2|TestW1|TestW14|TestW17|TestS2)$$)' ./events ./cmd/lictor
	@$(TESTBED) power
	LICTOR_TEST_LONG=1 go test -count=1 -v -run '^TestExportIsAStream$$' ./cmd/lictor
	LICTOR_TEST_LONG=1 CGO_ENABLED=1 go test -count=1 -v -race -run '^TestStream$$' ./cmd/lictor/internal/api

.PHONY: test-power
test-power: testbed ## Kill 50 machines while they write records, and look for every acknowledged one at the next boot
	@$(TESTBED) power

.PHONY: test-sid
test-sid: testbed ## Run the integration tests in a fresh guest of sid, the newest systemd
	@$(TESTBED) run --suite sid $(if $(RUN),--run '$(RUN)') $(PKG)

.PHONY: vm-test
vm-test: testbed ## Run integration tests in the kept guest (SUITE, PKG, RUN); boots it if need be
	@$(TESTBED) run --keep -v --suite $(SUITE) $(if $(RUN),--run '$(RUN)') $(PKG)

.PHONY: vm-up
vm-up: testbed ## Boot a guest that is kept (SUITE)
	@$(TESTBED) up --suite $(SUITE)

.PHONY: vm-down
vm-down: testbed ## Stop the kept guest (SUITE)
	@$(TESTBED) down --suite $(SUITE)

.PHONY: vm-shell
vm-shell: testbed ## Open a shell in the kept guest (SUITE, AS=root, alice or bob)
	@$(TESTBED) up --suite $(SUITE)
	@$(TESTBED) ssh --suite $(SUITE) --user $(AS)

.PHONY: bench
bench: testbed ## Run the benchmarks in a fresh guest (SUITE, PKG, BENCH)
	@$(TESTBED) run --suite $(SUITE) --bench '$(BENCH)' $(PKG)

.PHONY: fuzz
fuzz: testbed ## Run every fuzzer for FUZZTIME
	@$(TESTBED) fuzz --time $(FUZZTIME) $(PKG)

.PHONY: demo
demo: build testbed ## Show lictor at work, in a guest unless this machine will do
	@$(TESTBED) demo

.PHONY: clean
clean: ## Remove what was built here; the cache of images stays
	rm -rf bin
