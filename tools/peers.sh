#!/bin/sh
# Other programs read what ferkd writes: tests that need packages from PyPI, in a virtual environment in the folder
# given: peers.sh build-peers build/ferkd
set -eu
build=$1
ferkd=$2
if ! "$build/venv/bin/python" -c 'import onnx, onnxruntime, tensorboard, webdataset' 2>/dev/null; then
    python3 -m venv "$build/venv"
    if ! "$build/venv/bin/pip" install -q tensorboard onnx onnxruntime webdataset numpy pillow; then
        echo "SKIPPED: PyPI is not reached" >&2
        exit 0
    fi
fi
"$build/venv/bin/python" tests/peers/tensorboard_reads.py "$ferkd"
"$build/venv/bin/python" tests/peers/webdataset_reads.py "$ferkd"
FERKD_LIBRARY=$(dirname "$ferkd")/libferkd.so "$build/venv/bin/python" python/tests/test_ferkd.py "$ferkd"
"$build/venv/bin/python" tests/peers/onnx_nodes.py "$ferkd"
"$build/venv/bin/python" tests/peers/zoo_exports.py "$ferkd" --small
"$build/venv/bin/python" tests/peers/predicts.py "$ferkd"
