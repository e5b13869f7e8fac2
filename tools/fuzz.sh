#!/bin/sh
# Fuzz one parser for some seconds: fuzz.sh onnx 60. Needs clang and its runtime (libclang-rt-14-dev).
set -eu
target=$1
seconds=$2
dir=build-fuzz
cmake -S . -B $dir -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DFERKD_SANITIZE=fuzzer-no-link,address,undefined -DFERKD_TESTS=OFF >/dev/null
cmake --build $dir -j "$(nproc)" --target ferkd_static
libs=$(pkg-config --libs libjpeg libpng zlib jansson yaml-0.1 libxxhash libarchive libprotobuf-c)
# shellcheck disable=SC2086
clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -DFERKD_VERSION='"fuzz"' -Iinclude -Isrc -Itests/fuzz \
    tests/fuzz/fuzz_"$target".c $dir/libferkd.a -o $dir/fuzz_"$target" $libs -ldnnl -lomp -fopenmp -lm -lpthread 2>/dev/null ||
clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -DFERKD_VERSION='"fuzz"' -Iinclude -Isrc -Itests/fuzz \
    tests/fuzz/fuzz_"$target".c $dir/libferkd.a -o $dir/fuzz_"$target" $libs -ldnnl -lgomp -lm -lpthread
seeds=$(sed -n 's/.*fuzz_seeds = "\(.*\)";/\1/p' tests/fuzz/fuzz_"$target".c)
suffix=$(sed -n 's/.*fuzz_suffix = "\(.*\)";/\1/p' tests/fuzz/fuzz_"$target".c)
mkdir -p $dir/corpus_"$target"
cp tests/"$seeds"/*"$suffix" $dir/corpus_"$target"/
$dir/fuzz_"$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -artifact_prefix=$dir/ $dir/corpus_"$target"
