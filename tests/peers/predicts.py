#!/usr/bin/env python3
"""The examples that run a student elsewhere say what ferkd predict says: predicts.py FERKD. In C++ where OpenCV can be built with."""
import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

ferkd, here = os.path.abspath(sys.argv[1]), os.path.dirname(os.path.abspath(__file__))
examples = os.path.join(here, "../../examples")
rng = np.random.default_rng(3)
with tempfile.TemporaryDirectory() as work:
    def run(*words):
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    for c, colour in (("red", (220, 30, 20)), ("sea", (20, 60, 200)), ("sun", (240, 220, 40))):
        os.makedirs(f"{work}/d/{c}")
        for i in range(8):
            noise = rng.normal(0, 25, (90 + 3 * i, 120, 3)) + np.array(colour)
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(f"{work}/d/{c}/{i}.png")
    run(ferkd, "train", f"{work}/d", "--val", f"{work}/d", "--method", "ce", "--model", "small28", "--size", "32", "--batch", "8",
        "--epochs", "6", "--lr", "0.02", "--seed", "1", "-o", f"{work}/run")
    images = sorted(f"{work}/d/{c}/{i}.png" for c in ("red", "sea", "sun") for i in (0, 7))
    programs = [[sys.executable, f"{examples}/predict.py"]]
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "opencv4"], capture_output=True, text=True)
    if flags.returncode == 0:
        run("g++", "-O2", f"{examples}/predict.cpp", "-o", f"{work}/predict", *flags.stdout.split())
        programs.append([f"{work}/predict"])
    for how in ((), ("--fold",), ("--int8", f"{work}/d")):
        run(ferkd, "export", f"{work}/run", *how, "-o", f"{work}/m.onnx")
        want = [line.split("\t")[1].split() for line in run(ferkd, "predict", f"{work}/m.onnx", *images).splitlines()]
        for program in programs[:1 if how and how[0] == "--int8" else 2]:  # OpenCV 4.6 reads no 8-bit weights
            got = [line.split()[-2:] for line in run(*program, f"{work}/m.onnx", *images).splitlines()]
            exact = program is programs[0] and not how
            for (name, p), (other, q) in zip(want, got, strict=True):
                assert name == other and abs(float(p) - float(q)) < (2e-4 if exact else 0.05), (program, how, want, got)
    print(f"students in {len(programs)} other programs say the same")
