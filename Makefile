# Everything one does with certkit's sources. `make` alone lists it.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo

# How long `make fuzz` spends on each target, in seconds.
FUZZ_SECONDS ?= 60

target  := $(or $(CARGO_TARGET_DIR),target)
certkit := $(target)/release/certkit

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## the release binary, target/release/certkit
	$(CARGO) build --release --locked

.PHONY: controller
controller: ## certkit with `controller` and `csr`, target/controller/release/certkit
	$(CARGO) build --release --locked --features cluster --target-dir $(target)/controller

.PHONY: install
install: ## install the binary, man pages and completions below DESTDIR/PREFIX (/usr/local)
	@test -x $(certkit) || $(MAKE) build
	install -Dm755 $(certkit) $(DESTDIR)$(PREFIX)/bin/certkit
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,man/man1 bash-completion/completions \
		zsh/site-functions fish/vendor_completions.d)
	cd $(DESTDIR)$(PREFIX)/share; certkit=$(abspath $(certkit)); \
	$$certkit man --output-dir man/man1; \
	$$certkit completions bash >bash-completion/completions/certkit; \
	$$certkit completions zsh >zsh/site-functions/_certkit; \
	$$certkit completions fish >fish/vendor_completions.d/certkit.fish

.PHONY: dist
dist: ## what is handed out, into target/dist: static binary, .deb, SBOM, SHA-256 sums
	@tests/packaging/dist.sh

.PHONY: package
package: dist ## the same, then install, upgrade and purge the package on this machine (root, Debian)
	@tests/packaging/try.sh $(target)/dist

.PHONY: same
same: ## build what is handed out twice and compare the bytes (needs many minutes)
	@tests/packaging/same.sh

.PHONY: try
try: build ## make a one-host cluster's PKI in ./demo-pki and look at it
	$(certkit) init --dir demo-pki --name demo --host cp1=10.0.0.11 --endpoint 10.0.0.11:6443
	$(certkit) check-expiration --dir demo-pki

.PHONY: check
check: lint test ## all that a change must pass: lint and test

.PHONY: lint
lint: ## format, clippy, docs, shell, dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@# What is there with a cluster's API alone; the pages have both.
	$(CARGO) clippy --locked --features cluster --lib --bins --test controller_live --test controller_storm_live --test signers_live --test watch_live -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --features cluster --no-deps
	@if command -v shellcheck >/dev/null; then shellcheck .ci/* tests/packaging/debian/* tests/*.sh tests/*/*.sh tests/pages/stand-ins/*; \
	else echo "lint: shellcheck is not installed, shell scripts not checked"; fi
	@# Turned on anywhere in the graph, these change for everybody what signs and verifies.
	@for feature in rcgen/aws_lc_rs x509-parser/verify-aws rustls/aws_lc_rs; do \
		tree=$$($(CARGO) tree --locked --all-features -e features -i "$${feature%/*}"); \
		if grep -F "feature \"$${feature#*/}" <<<"$$tree"; then \
			echo "lint: something enables $$feature" >&2; exit 1; fi; done
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check bans licenses sources; \
	else echo "lint: cargo-deny is not installed, licences and sources not checked"; fi

.PHONY: needs
needs: ## install what the tests need: etcd, openssl, strace, kubectl, promtool (root, Debian)
	@tests/needs.sh

.PHONY: kubernetes
kubernetes: ## build the real Kubernetes that tests run, once per version, into a cache (needs minutes)
	@tests/kubernetes/build.sh

.PHONY: test
test: needs ## every test, then the list of those skipped for want of a program
	@$(MAKE) --no-print-directory kubernetes || echo "kubernetes: not built; what needs it is skipped"
	@tests/run.sh

.PHONY: bench
bench: ## the benchmarks, each with its aim; writes docs/benchmarks.md
	CERTKIT_BENCH=write $(CARGO) bench --locked --bench '*'

.PHONY: golden
golden: ## rewrite the golden files from what the code gives now; read the diff
	CERTKIT_GOLDEN=write INSTA_UPDATE=always $(CARGO) test --locked
	@git status --short tests docs

.PHONY: docs
docs: ## rewrite the generated pages of docs/ from the catalogue
	CERTKIT_GOLDEN=write $(CARGO) test --locked --test docs
	@git status --short docs

.PHONY: book
book: ## the pages of docs/ as a site with a search, into target/book; its links are followed
	@tests/book.sh

.PHONY: picture
picture: build ## take the pictures of the report that README.md shows (chromium)
	@tests/picture.sh

# The code has no `unsafe`, so there is nothing for the address sanitizer (nightly Rust) to find.
.PHONY: fuzz
fuzz: ## fuzz each target for FUZZ_SECONDS (60)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install cargo-fuzz --locked
	@targets=$$(cd fuzz/fuzz_targets && ls -- *.rs); for t in $$targets; do \
		t=$${t%.rs}; mkdir -p "fuzz/corpus/$$t"; $(CARGO) fuzz run --sanitizer none "$$t" \
			"fuzz/corpus/$$t" "fuzz/seeds/$$t" -- -max_total_time=$(FUZZ_SECONDS); done
