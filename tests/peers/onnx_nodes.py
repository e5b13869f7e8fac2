#!/usr/bin/env python3
"""onnx_nodes.py FERKD [TABLE.md]: the node tests that the onnx package ships, through "ferkd run".

A test's first input is the network's; the others become constants, as they are in classifiers. Each test passes, or is refused
with a reason (a message that names node and operator), or fails: then this exits with 1.
"""
import re
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

OPS = set(
    """Conv BatchNormalization MaxPool AveragePool GlobalAveragePool GlobalMaxPool Relu Clip Sigmoid HardSwish HardSigmoid
LeakyRelu Elu Celu Selu ThresholdedRelu Gelu Tanh Erf Exp Log Sqrt Abs Neg Sign Reciprocal Softplus Softsign Mish Swish Round
Floor Ceil PRelu Add Sub Mul Div Pow Max Min Sum Mean Equal Greater Less GreaterOrEqual LessOrEqual Where ReduceMean ReduceSum
ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp Softmax LogSoftmax QuantizeLinear
DequantizeLinear Gemm MatMul Einsum LayerNormalization GroupNormalization InstanceNormalization RMSNormalization Resize Upsample
Flatten Reshape Transpose Squeeze Unsqueeze Concat Split Slice Pad Expand Tile Gather DepthToSpace SpaceToDepth Dropout
Identity Cast Attention""".split())


def reason(text):
    """The last words of a message, without names and numbers of this one test."""
    text = text.strip().splitlines()[-1] if text.strip() else "died"
    return re.sub(r".*opset -?\d+: |.*\.onnx: |.*\.npy: ", "", text)


def run(ferkd, test, room):
    """(verdict, why): passed, refused, failed, or skipped for what is no single operator on float tensors."""
    model = onnx.ModelProto.FromString(test.model.SerializeToString())
    g = model.graph
    if len(g.node) != 1 or g.node[0].op_type not in OPS:
        return "skipped", ""
    inputs, outputs = test.data_sets[0]
    if not inputs:
        return "skipped", ""
    if any(v is None or isinstance(v, (list, dict)) for v in [*inputs, outputs[0]]):
        return "refused", "inputs or outputs that are no tensors"
    if any(isinstance(v, onnx.TensorProto) for v in [*inputs, outputs[0]]):
        return "refused", "an element type that NumPy has not"
    inputs, want = [np.asarray(v) for v in inputs], np.asarray(outputs[0])
    first = inputs[0]
    if g.node[0].op_type == "Div" and first.dtype.kind in "iu":
        return "refused", "division of whole numbers"
    if first.dtype.kind not in "fiub" or first.dtype.itemsize > 8 or first.size == 0 or want.dtype.kind not in "fiub":
        return "refused", "an element type that no classifier has, or an empty tensor"
    for value, array in list(zip(g.input, inputs))[1:]:
        g.initializer.append(numpy_helper.from_array(array, value.name))
        g.input.remove(value)
    onnx.save(model, room / "m.onnx")
    np.save(room / "x.npy", np.ascontiguousarray(first.astype(np.float32)))
    r = subprocess.run([ferkd, "run", room / "m.onnx", "-i", room / "x.npy", "-o", room / "y.npy"], capture_output=True, text=True)
    if r.returncode < 0:
        return "failed", f"died of signal {-r.returncode}"
    if r.returncode:
        return "refused", reason(r.stderr)
    got = np.load(room / "y.npy")
    if got.shape != want.shape:
        return "failed", f"shape {got.shape}, not {want.shape}"
    if not np.allclose(got, want.astype(np.float64), rtol=1e-3, atol=1e-5, equal_nan=True):
        return "failed", f"off by {np.abs(got - want).max():.3g}"
    return "passed", ""


def main():
    ferkd = str(Path(sys.argv[1]).resolve())
    verdicts = defaultdict(lambda: defaultdict(list))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    with tempfile.TemporaryDirectory() as folder:
        for test in cases:
            verdict, why = run(ferkd, test, Path(folder))
            if verdict != "skipped":
                verdicts[test.model.graph.node[0].op_type][verdict].append((test.name, why))
    lines = ["| operator | passed | refused | why |", "|---|---|---|---|"]
    total = defaultdict(int)
    for op in sorted(verdicts):
        v = verdicts[op]
        for kind in v:
            total[kind] += len(v[kind])
        whys = "; ".join(sorted({why for _, why in v["refused"]}))
        lines.append(f"| {op} | {len(v['passed'])} | {len(v['refused'])} | {whys} |")
        for name, why in v["failed"]:
            print(f"FAILED {name}: {why}")
    lines.append(f"| all | {total['passed']} | {total['refused']} | |")
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text("\n".join(lines) + "\n")
    print(f"onnx {onnx.__version__}, node tests: {total['passed']} passed, {total['refused']} refused, {total['failed']} failed")
    return 1 if total["failed"] or not total["passed"] else 0


sys.exit(main())
