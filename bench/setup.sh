#!/bin/sh
# The bench's own virtual environment: PyTorch, torchvision, timm and ONNX Runtime from PyPI; where PyPI is not to be had, Debian's
# python3-torch and python3-torchvision (older, and without ONNX Runtime).
set -eu
where=$1
mkdir -p "$where"
python3 -m venv "$where"
if ! "$where/bin/pip" install -q torch torchvision timm onnx onnxruntime numpy pillow; then
    echo "PyPI is not reached: using Debian's packages" >&2
    python3 -m venv --clear --system-site-packages "$where"
    "$where/bin/python" -c 'import torch, torchvision' || {
        echo "apt-get install python3-torch python3-torchvision" >&2
        exit 1
    }
fi
