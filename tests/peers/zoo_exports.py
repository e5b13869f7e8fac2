#!/usr/bin/env python3
"""Every network of the zoo takes two training steps, is exported, and gives the same logits elsewhere:
zoo_exports.py FERKD [--table FILE.md] [--only NAME ...] [--small].

In ONNX Runtime, and in OpenCV's DNN module where a python3 has cv2 (Debian's python3-opencv: OPENCV_PYTHON=/usr/bin/python3).
--small: one of each family."""
import argparse
import os
import shutil
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime
from PIL import Image

SMALL = ("resnet18 resnet18d resnext50_32x4d regnet_y_400mf mobilenet_v2_x0_5 mobilenetv3_small_100 mobilenetv4_conv_small efficientnet_b0 "
         "tf_efficientnetv2_b0 shufflenet_v2_x0_5 deit_tiny_distilled_patch16_224 convnext_atto swin_tiny_patch4_window7_224 vit_small_patch14_reg4_dinov2 sret_lt").split()
HUGE = ("vit_large", "huge", "giant", "gigantic", "152", "101", "16gf", "8gf", "base")
CV2 = """
import sys, numpy as np, cv2
net = cv2.dnn.readNetFromONNX(sys.argv[1])
rows = []
for image in np.load(sys.argv[2]):
    net.setInput(image[None])
    rows.append(net.forward().reshape(-1))
np.save(sys.argv[3], np.array(rows))
"""


def elsewhere(model, x):
    s = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return s.run(None, {s.get_inputs()[0].name: x})[0]


def opencv(python, model, work):
    """Logits, or why there are none."""
    r = subprocess.run([python, "-c", CV2, model, f"{work}/x.npy", f"{work}/cv.npy"], capture_output=True, text=True)
    if r.returncode == 0:
        return np.load(f"{work}/cv.npy"), ""
    why = [line for line in r.stderr.splitlines() if "rror" in line]
    return None, (why[-1] if why else "crashed").strip()[:120]


def in_bytes(ferkd, work, y, x):
    """The run in 8 bits, from ferkd export --int8: how far ONNX Runtime's logits are from ours and from those of f32; how
    many of its operators work on bytes, and how many convolutions and products do not."""
    model = f"{work}/8.onnx"
    subprocess.run([ferkd, "export", f"{work}/run", "--int8", f"{work}/d", "-o", model], check=True, capture_output=True)
    subprocess.run([ferkd, "run", model, "-i", f"{work}/x.npy", "-o", f"{work}/y8.npy"], check=True, capture_output=True)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{work}/optimised.onnx"
    options.log_severity_level = 3
    s = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    z = s.run(None, {"input": x})[0]
    onnx.checker.check_model(onnx.load(model), full_check=True)
    ops = [n.op_type for n in onnx.load(f"{work}/optimised.onnx").graph.node]
    fast = sum(op in ("QLinearConv", "QGemm") for op in ops)
    slow = sum(op in ("Conv", "FusedConv", "Gemm", "FusedGemm") for op in ops)
    return relative(np.load(f"{work}/y8.npy"), z), relative(y, z), fast, slow


def relative(y, z):
    return float(np.abs(y - z).max() / max(np.abs(y).max(), 1e-30))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("ferkd")
    p.add_argument("--table")
    p.add_argument("--only", nargs="*")
    p.add_argument("--small", action="store_true")
    p.add_argument("--export", default="", help="options of ferkd export, in one word")
    a = p.parse_args()
    ferkd = os.path.abspath(a.ferkd)
    python = os.environ.get("OPENCV_PYTHON", "python3")
    how = a.export.split()
    has_cv = subprocess.run([python, "-c", "import cv2"], capture_output=True).returncode == 0
    names = [line.split()[0] for line in subprocess.run([ferkd, "info"], capture_output=True, text=True).stdout.splitlines()]
    names = a.only or (SMALL if a.small else [n for n in names if not any(h in n for h in HUGE)])
    work = tempfile.mkdtemp()
    rng = np.random.default_rng(1)
    for c in range(4):
        os.makedirs(f"{work}/d/c{c}")
        for i in range(4):
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(f"{work}/d/c{c}/{i}.png")
    rows, failed = [], []
    for name in names:
        size = "28" if name.startswith("small28") else "32" if name in ("resnet20", "resnet32", "resnet56") else "112" if "_patch14" in name else "128" if "sret" in name else "64"
        shutil.rmtree(f"{work}/run", ignore_errors=True)
        for command in (["train", f"{work}/d", "--val", f"{work}/d", "--method", "ce", "--model", name, "--size", size, "--batch", "8",
                         "--epochs", "1", "--lr", "1e-3", "--tune", "off", "-o", f"{work}/run"],
                        ["export", f"{work}/run", *how, "-o", f"{work}/m.onnx"]):
            r = subprocess.run([ferkd, *command], capture_output=True, text=True)
            if r.returncode:
                break
        if r.returncode:
            failed.append(name)
            rows.append((name, "failed: " + r.stderr.strip().splitlines()[-1][:100], "", ""))
            print(*rows[-1], sep=" | ", flush=True)
            continue
        x = rng.standard_normal((3, 3, int(size), int(size)), np.float32)
        np.save(f"{work}/x.npy", x)
        subprocess.run([ferkd, "run", f"{work}/run", "-i", f"{work}/x.npy", "-o", f"{work}/y.npy"], check=True, capture_output=True)
        y = np.load(f"{work}/y.npy")
        ort = relative(y, elsewhere(f"{work}/m.onnx", x))
        z, why = opencv(python, f"{work}/m.onnx", work) if has_cv else (None, "not tried")
        cv = relative(y, z) if z is not None else None
        if ort > 1e-4 or (cv is not None and cv > 1e-4):
            failed.append(name)
        ours, loss, fast, slow = in_bytes(ferkd, work, y, x)
        if ours > 0.15 or loss > 0.5 or fast == 0:
            failed.append(name)
        rows.append((name, f"{ort:.1e}", why if cv is None else f"{cv:.1e}", f"{loss:.1e} ({fast} of {fast + slow} in bytes, ours {ours:.1e})"))
        print(*rows[-1], sep=" | ", flush=True)
    if a.table:
        with open(a.table, "w") as f:
            f.write("| model | ONNX Runtime | OpenCV 4.6 | 8 bits in ONNX Runtime |\n|---|---|---|---|\n")
            f.writelines("| " + " | ".join(r) + " |\n" for r in rows)
    shutil.rmtree(work)
    print(f"{len(rows)} networks exported, {len(failed)} failed: {' '.join(failed)}")
    raise SystemExit(bool(failed))


main()
