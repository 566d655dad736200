# Divert. `make help` lists all there is.
SHELL := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
CACHE := $(CURDIR)/.cache
BIN := $(CACHE)/bin
LDFLAGS := -s -w -X main.version=$(VERSION)
GO ?= go
export CGO_ENABLED ?= 0
FUZZTIME ?= 20s
REPLYTIME ?= $(FUZZTIME)
ROUNDS ?= 20

.DEFAULT_GOAL := help
.PHONY: help build demo test race e2e drains check lint vuln fmt fuzz bench bench-dns kube-tools flood lab-detect lab-detect-short lab-rotate lab-rotate-short lab-scale sim sim-detect mutants chaos-store test-kube test-resolvers generate clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./divert, one static file
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o divert ./cmd/divert

demo: build ## three directors, three clusters, real DNS: nothing to set up
	@./divert demo

test: build ## all tests that need no privileges, with an end-to-end smoke; under 10 minutes cold
	$(GO) test -timeout 30m ./...

race: ## the same under the race detector (needs a C compiler)
	CGO_ENABLED=1 DIVERT_E2E=off DIVERT_STORE=off $(GO) test -race -timeout 30m ./...

e2e: build ## the long end-to-end suite: ROUNDS kills, long partitions (E2E='-run TestKills' for a part)
	DIVERT_E2E=long DIVERT_E2E_ROUNDS=$(ROUNDS) $(GO) test -count=1 -timeout 40m -v ./chaos/e2e $(E2E)

drains: build ## how soon a drain is in the answers of the last of three and of five directors; four minutes (DRAINS=1000 for more than 200)
	DIVERT_E2E=long DIVERT_E2E_DRAINS=$(or $(DRAINS),200) $(GO) test -count=1 -timeout 20m -v ./chaos/e2e -run TestDrainSpeed

check: lint ## style: what CI holds every change to
	@test -z "$$($(BIN)/gofumpt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$'))" || { $(BIN)/gofumpt -l $$(git ls-files '*.go' | grep -v '\.pb\.go$$'); echo 'not gofumpt-clean: run make fmt'; exit 1; }
	$(GO) mod verify >/dev/null
	$(GO) mod tidy -diff

lint: $(BIN)/golangci-lint $(BIN)/gofumpt ## golangci-lint with the linters of .golangci.yml
	$(GO) vet ./...
	$(BIN)/golangci-lint run ./...

vuln: $(BIN)/govulncheck ## known vulnerabilities of modules, and of Go; says so where no database can be had (VULN=must: fails for that, and for an old Go)
	.ci/vuln $(BIN)/govulncheck

fmt: $(BIN)/gofumpt ## format the code
	$(BIN)/gofumpt -w $$(git ls-files '*.go' | grep -v '\.pb\.go$$')

# The linters and generators are Go tools of a nested module, so that none of
# their dependencies is one of the product's.
$(BIN)/%: .tools/go.mod
	@mkdir -p $(BIN)
	cd .tools && GOBIN=$(BIN) CGO_ENABLED=0 $(GO) install $$($(GO) list -f '{{.ImportPath}}' tool | grep -E '/$*$$')

fuzz: ## fuzz every target for FUZZTIME each, the packet path for REPLYTIME
	@.ci/fuzz $(FUZZTIME) $(REPLYTIME)

bench: ## the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-dns: ## what an answer costs beside gdnsd, Knot, NSD, PowerDNS; as root on Debian it installs them (BENCH='-rounds 9' for more)
	$(GO) run ./dnsserver/bench -install $(BENCH)

kube-tools: ## build a real kube-apiserver into .cache (10 minutes of two cores, once)
	health/kube/apiserver/build

test-resolvers: ## real resolvers (unbound, BIND), secondaries and answers of others (NSD, Knot, BIND), clients; needs root
	DIVERT_RESOLVERS=1 $(GO) test -count=1 -v -timeout 10m ./dnsserver/conform -run TestAnswersLikeOthers
	DIVERT_RESOLVERS=1 $(GO) test -count=1 -v -timeout 10m ./chaos/e2e -run 'TestResolvers|TestSecondaries'

flood: ## a flood from forged addresses (F20), in network namespaces of its own; needs root and ip, or it is skipped
	DIVERT_FLOOD=1 $(GO) test -count=1 -v -timeout 10m ./chaos/e2e -run 'TestFlood'

sim-detect: ## what a simulation of the detector says: 10,000 hours of loss, computed rates, times; 2 minutes (SIM='-hours 100 -json' for more)
	$(GO) run ./chaos/sim $(SIM)

sim: ## play made-up fleets against every row of INVARIANTS for SIMTIME (5m; 30m is a night's), from seed SEED (1), SEEDS of them (all that the time allows); what breaks is made small and kept in testdata
	$(GO) run ./chaos/sim/fleet/play -for $(or $(SIMTIME),5m) -seed $(or $(SEED),1) -seeds $(or $(SEEDS),0)

mutants: ## look whether the simulator finds each deliberate bug of chaos/sim/fleet/testdata/mutants; a build for each, 8 minutes (MUTANTS='-only step-early' for one)
	$(GO) run ./chaos/sim/fleet/mutate $(MUTANTS)

chaos-store: ## 10,000 commands on a real etcd of three, killed, paused and parted; directors stopped and killed at each step of a write; 5 minutes (DIVERT_STORE_COMMANDS=1000 for fewer)
	DIVERT_STORE=long $(GO) test -count=1 -v -timeout 20m ./chaos/quorum

lab-scale: ## what 1,000 clusters × 5 services cost each of five directors, and of ten, and one 30,000 checks, all on loopback; 7 minutes (SCALE=200 for fewer)
	DIVERT_SCALE=$(or $(SCALE),1000) $(GO) test -count=1 -v -timeout 20m ./chaos/e2e -run TestScale

lab-detect: build ## how soon the dead are out and that the living stay in (F1-F6, F9, F12, F14, F19), beside gdnsd and PowerDNS; needs root, ip and nft; 2 hours (LAB='-rounds 50 -hours 0.1' for less)
	$(GO) build -o $(BIN)/lab ./chaos/lab
	$(BIN)/lab -json $(CACHE)/lab-detect.json $(LAB)

lab-detect-short: ## the same in three minutes, where only what may never be fails; skipped where it cannot be had
	DIVERT_LAB=1 $(GO) test -count=1 -v -timeout 10m ./chaos/lab -run 'TestShort'

lab-rotate: ## keys, tokens and certificates turned over under 10,000 queries a second, 2 minutes: 0 failed queries, 0 lost votes, or it fails (ROTATE=2000 for fewer)
	DIVERT_ROTATE=$(or $(ROTATE),10000) DIVERT_ROTATE_FOR=2m $(GO) test -count=1 -v -timeout 10m ./chaos/e2e -run TestRotations

lab-rotate-short: ## the same at 2,000 a second, each turned over once or more; a part of make e2e
	DIVERT_ROTATE=$(or $(ROTATE),2000) $(GO) test -count=1 -v -timeout 5m ./chaos/e2e -run TestRotations

test-kube: build kube-tools ## the control-plane probe against a real kube-apiserver
	DIVERT_KUBE=1 $(GO) test -count=1 -v -timeout 10m ./health/kube/... ./chaos/e2e -run 'Kube'

generate: $(BIN)/protoc-gen-go ## generated code (needs protoc)
	PATH=$(BIN):$$PATH $(GO) generate ./...

clean: ## remove what was built, the cache apart
	rm -f divert
