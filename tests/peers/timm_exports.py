#!/usr/bin/env python3
"""Networks of timm, written by PyTorch's exporter, come in and go out again: timm_exports.py FERKD [NAME ...].

Each has random weights and 12 classes. Two images go through the file in ONNX Runtime, through "ferkd run", and through what
"ferkd export" writes of the file in ONNX Runtime; largest difference, relative to the largest logit. Needs torch, timm and
onnxruntime, which tests don't: it is run by hand (docs/onnx.md)."""
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnxruntime
import timm
import torch

NAMES = """deit3_small_patch16_224 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 convnextv2_atto levit_128s mobilevit_xs
poolformer_s12 fbnetc_100 cait_xxs24_224 beit_base_patch16_224 efficientformer_l1 gcresnet33ts ghostnet_100 repvgg_a0
coatnet_nano_rw_224 inception_v3 densenet121 res2net50_26w_4s resnest14d pvt_v2_b0 fastvit_t8 mobileone_s0 davit_tiny regnety_004
hardcorenas_a mobilenetv4_conv_small tinynet_a resnext50_32x4d maxvit_nano_rw_256 vit_small_patch14_dinov2
vit_so150m_patch16_reg4_gap_256""".split()


def outputs(path, x):
    return onnxruntime.InferenceSession(path).run(None, {"input": x})[0]


def write(name, path):
    model = timm.create_model(name, num_classes=12).eval()
    side = model.default_cfg["input_size"][-1]
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    torch.onnx.export(model, torch.randn(1, 3, side, side), path, dynamo=False, input_names=["input"],
                      dynamic_axes={"input": {0: "n"}}, opset_version=17)
    return side


def compare(ferkd, name, work):
    side = write(name, f"{work}/a.onnx")
    x = np.random.default_rng(0).standard_normal((2, 3, side, side)).astype(np.float32)
    np.save(f"{work}/x.npy", x)
    subprocess.run([ferkd, "run", f"{work}/a.onnx", "-i", f"{work}/x.npy", "-o", f"{work}/y.npy"], check=True, capture_output=True)
    subprocess.run([ferkd, "export", f"{work}/a.onnx", "--teacher-size", str(side), "--teacher-mean", "0.5", "--teacher-std", "0.5",
                    "-o", f"{work}/b.onnx"], check=True, capture_output=True)
    want = outputs(f"{work}/a.onnx", x)
    return [np.abs(got - want).max() / np.abs(want).max() for got in (np.load(f"{work}/y.npy"), outputs(f"{work}/b.onnx", x))]


def main():
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    failed = 0
    for name in sys.argv[2:] or NAMES:
        with tempfile.TemporaryDirectory() as work:
            try:
                run, again = compare(sys.argv[1], name, work)
                print(f"{name}: ferkd run {run:.1e}, exported again {again:.1e}", flush=True)
                failed += not (run < 1e-4 and again < 1e-4)
            except subprocess.CalledProcessError as e:
                print(f"{name}: {e.stderr.decode().strip()}", flush=True)
                failed += 1
    sys.exit(failed > 0)


main()
