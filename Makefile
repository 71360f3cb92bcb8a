# Two commands do everything on a fresh Debian machine with a Rust toolchain:
#   make demo   installs what it needs, builds, and shows the whole job on this machine
#   make test   installs what it needs and runs every check

.PHONY: help demo test bench soak chaos fuzz fuzz-briefly lint install-demo install-test install-bench
# What a target needs is done in the order written, also with -j; cargo uses every core by itself.
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:
	@echo "make demo   build, then show two sites, two recovery points, a disaster, a proven restore and who is live after it"
	@echo "make test   every check: format, lints, documentation, licences, tidiness, unit to end-to-end"
	@echo "make fuzz   ten minutes of fuzzing for each parser of what others may have written"
	@echo "make soak   10,000 points and 200,000 packs, a row of 500 MB, 20 captures under load, 10,000 edits of a bucket, an object of 5.5 GiB, 10 million keys, 20 minutes of two daemons"
	@echo "make chaos  the protocol of one live site, searched with wide bounds, walked at random, a thousand schedules of faults, and real sites cut apart with the default lease: minutes"
	@echo "make bench  what each stage of the pipeline costs, a database beside pg_dump, a mirror beside rclone, …"

demo: install-demo
	cargo build --locked --release
	$${CARGO_TARGET_DIR:-target}/release/warmspare demo

test: install-test lint
	cargo test --locked --features failpoints
	$(MAKE) fuzz-briefly

# libFuzzer with a stable compiler and without cargo-fuzz (which finds the targets as well). The target folder is that of
# the tests: their dependencies are not built again.
FUZZ_SECONDS = 600

fuzz: install-test
	@fuzz/run.sh $(FUZZ_SECONDS)

fuzz-briefly:
	@fuzz/run.sh 20

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets --features failpoints -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	@if cargo deny --version >/dev/null 2>&1; then \
	    cargo deny --offline check bans licenses sources; \
	else \
	    echo "cargo-deny is not installed: licences are checked by tests/tidy alone"; \
	fi

# The servers of the tests, too.
soak: install-test install-bench
	cargo build --locked --release
	WARMSPARE_SOAK_BINARY="$$(realpath $${CARGO_TARGET_DIR:-target})/release/warmspare" \
	    cargo test --locked --test it -- --ignored --nocapture --test-threads=1 soak:: attic:: large::
	cargo bench --locked --bench mirror -- scale

# The unoptimised build of the tests: nothing is compiled anew.
chaos: install-test
	cargo test --locked --features failpoints --lib site:: -- --ignored --nocapture --test-threads=1
	cargo test --locked --features failpoints --test it apart:: -- --ignored --nocapture --test-threads=1

bench: install-bench
	cargo bench --locked --bench pipeline
	cargo bench --locked --bench gate
	WARMSPARE_BENCH_PG16="$$(tests/support/postgres-servers.sh folder 16)" cargo bench --locked --bench database
	PATH="$$PATH:$$(tests/support/peers.sh)" cargo bench --locked --bench mirror

# Asks for nothing when everything is there.
install-demo install-test install-bench:
	@tests/support/install.sh $(@:install-%=%)
