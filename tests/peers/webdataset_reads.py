#!/usr/bin/env python3
"""The webdataset package reads what "ferkd store export" writes: webdataset_reads.py FERKD."""
import os
import subprocess
import sys
import tempfile

import numpy as np
import webdataset
from PIL import Image

ferkd = os.path.abspath(sys.argv[1])
work = tempfile.mkdtemp()
tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
rng = np.random.default_rng(1)
for c in ("ant", "bee", "cat", "dog"):
    os.makedirs(f"{work}/d/{c}")
    for i in range(5):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(f"{work}/d/{c}/{i}.jpg")
subprocess.run([ferkd, "label", f"{work}/d", "--teacher", f"{tests}/data/onnx/mixed17.onnx", "--teacher-size", "16",
                "--teacher-mean", "0.5", "--teacher-std", "0.5", "--regions", "3", "--topk", "2", "-o", f"{work}/l.ferkd"],
               check=True, capture_output=True)
subprocess.run([ferkd, "store", "export", f"{work}/l.ferkd", "-o", f"{work}/w.tar", "--images-per-file", "6", "--with-images"],
               check=True, capture_output=True)
shards = sorted(f"{work}/{f}" for f in os.listdir(work) if f.startswith("w-"))
seen = 0
for s in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):
    at = s["json"]
    assert s["__key__"] == f"{seen:09d}" and at["image"] == seen and s["cls"] == at["class"]
    assert s["jpg"].size == (60, 40)
    assert s["boxes.npy"].shape == (3, 4) and s["boxes.npy"].dtype == np.int32
    assert s["flips.npy"].shape == (3,)
    assert s["classes.npy"].shape == (3, 2) and s["classes.npy"].dtype == np.uint16
    p = s["probs.npy"]
    assert p.dtype == np.float32 and (p[:, 0] >= p[:, 1]).all() and (p.sum(1) <= 1.001).all()
    top, left, height, width = s["boxes.npy"].T
    assert (top + height <= 40).all() and (left + width <= 60).all()
    seen += 1
assert seen == 20 and len(shards) == 4, (seen, shards)
print(f"webdataset {webdataset.__version__}: {seen} samples of {len(shards)} files read")
