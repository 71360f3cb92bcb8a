#!/bin/sh
# RUSTC_WRAPPER of the fuzz targets: the counters libFuzzer steers by, in our own code only. Dependencies are built as
# for the tests, so that none is built again. These are the flags of `cargo fuzz --sanitizer none`; stable takes them.
set -eu
case " $* " in
*" --crate-name warmspare "* | *" --crate-name record "* | *" --crate-name pack "* | *" --crate-name manifest "* | *" --crate-name configuration "*)
    exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
