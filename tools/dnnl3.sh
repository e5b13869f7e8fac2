#!/bin/sh
# Build and test with oneDNN 3.x, from PyPI's wheels of it, in the folder given: dnnl3.sh build-dnnl3
set -eu
build=$1
mkdir -p "$build/wheels"
if ! ls "$build"/wheels/onednn_devel*/ >/dev/null 2>&1; then
    python3 -m venv "$build/venv"
    if ! "$build/venv/bin/pip" download -q --no-deps -d "$build/wheels" onednn-cpu-gomp onednn-devel-cpu-gomp; then
        echo "SKIPPED: oneDNN 3.x is not to be had: PyPI is not reached" >&2
        exit 0
    fi
    (cd "$build/wheels" && for w in *.whl; do python3 -m zipfile -e "$w" .; done)
fi
include=$(cd "$build"/wheels/onednn_devel_cpu_gomp-*.data/data/include && pwd)
library=$(cd "$build"/wheels/onednn_cpu_gomp-*.data/data/lib && pwd)
cmake -S . -B "$build" -DFERKD_WERROR=ON -DDNNL_INCLUDE="$include" -DDNNL_LIBRARY="$library/libdnnl.so.3" >/dev/null
cmake --build "$build" -j "$(nproc)"
cd "$build" && LD_LIBRARY_PATH="$library" ctest --output-on-failure
