#!/bin/sh
# Builds the fuzz targets and runs each for so many seconds, two at a time. What crashes one is left in the target folder
# under fuzz/, and named; new inputs go there too, and `fuzz/run.sh 600 merge` keeps the smallest of them in fuzz/corpus.
set -eu
seconds=${1:?the seconds for each target}
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$(cd .. && pwd)/target}
CARGO_TARGET_DIR=$target RUSTC_WRAPPER=$PWD/rustc.sh cargo build --locked

run() {
    work=$target/fuzz/$1
    mkdir -p "$work/new" "$work/crashes"
    # A second is long for a parser, and 1 GiB is much.
    "$target/debug/$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=16384 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="$work/crashes/" "$work/new" "corpus/$1" >"$work/log" 2>&1 && return
    echo "fuzz target $1 failed; its words:" >&2
    tail -n 40 "$work/log" >&2
    return 1
}

failed=""
wait_for() {
    wait "$1" || failed="$failed $2"
}
run record & record=$!
run configuration & configuration=$!
wait_for $record record
run pack & pack=$!
wait_for $configuration configuration
run manifest & manifest=$!
wait_for $pack pack
wait_for $manifest manifest

for name in record pack manifest configuration; do
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$target/fuzz/$name/log")
    echo "fuzz $name: ${runs:-?} inputs in $seconds s"
    if [ "${2:-}" = merge ]; then
        "$target/debug/$name" -merge=1 -max_len=16384 "corpus/$name" "$target/fuzz/$name/new" >>"$target/fuzz/$name/log" 2>&1
    fi
done
[ -z "$failed" ] || { echo "fuzz: failed:$failed" >&2; exit 1; }
