#!/usr/bin/env python3
"""tests/golden/torch/*.pth: what torch.save writes (PyTorch 2.x), with the values as text beside them."""
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

OUT = Path(__file__).parent / "torch"


class Evil:
    def __reduce__(self):
        import os
        return os.system, ("false",)


def flat(name, v, lines):
    if isinstance(v, dict):
        for k, x in v.items():
            if isinstance(k, str):
                flat(f"{name}.{k}" if name else k, x, lines)
    elif isinstance(v, (list, tuple)) and not isinstance(v, torch.Size):
        for i, x in enumerate(v):
            flat(f"{name}.{i}" if name else str(i), x, lines)
    elif isinstance(v, (torch.Tensor, np.ndarray)):
        t = torch.as_tensor(v.detach() if isinstance(v, torch.Tensor) else np.ascontiguousarray(v))
        values = " ".join(f"{x:.9g}" for x in t.to(torch.float64).flatten().tolist())
        lines.append(f"{name} {'x'.join(map(str, t.shape)) or '-'} {values}")


def save(name, value):
    torch.save(value, OUT / f"{name}.pth")
    lines = []
    flat("", value, lines)
    (OUT / f"{name}.txt").write_text("\n".join(lines) + "\n")


def fkd():
    """FKD's archives (marginal smoothing, k = 2) of two images of tests/data/images, as its generator saves them."""
    from PIL import Image
    for folder, name, seed in (("ant", "rgb420", 1), ("bee", "rgb444", 2)):
        rng = np.random.default_rng(seed)
        width, height = Image.open(Path(__file__).parent.parent / "data" / "images" / f"{name}.jpg").size
        h, w = rng.integers(1, height + 1, 3), rng.integers(1, width + 1, 3)
        coords = np.stack([rng.integers(0, height - h + 1) / height, rng.integers(0, width - w + 1) / width, h / height, w / width], 1)
        label = np.array([[[1, 0], [0.75, 0.125]], [[0, 3], [0.5, 0.25]], [[2, 1], [0.375, 0.25]]], np.float32)
        path = OUT.parent / "fkd" / folder / f"{name}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save([coords.astype(np.float32), np.array([True, False, True]), label], path)


def main():
    OUT.mkdir(exist_ok=True)
    fkd()
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    save("state", net.state_dict())
    save("checkpoint", {"epoch": 3, "lr": 0.5, "name": "x", "state_dict": OrderedDict(("module." + k, v) for k, v in
                                                                                      net.state_dict().items())})
    a = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    save("views", {"transposed": a.permute(2, 0, 1), "part": a[1, :, 1:3], "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3),
                   "parameter": torch.nn.Parameter(a[0])})
    save("types", {str(t).split(".")[1]: torch.tensor([-3, 0, 2, 100]).to(t) for t in
                   (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
                    torch.bool)} | {"small": torch.tensor([6e-8, 1e-5, -0.0, 65504.0]).half()})
    rng = np.random.default_rng(1)
    save("arrays", [rng.random((5, 4)).astype(np.float32), np.array([True, False, True]),
                    np.asfortranarray(rng.random((2, 2, 5)).astype(np.float16)), np.array([300, -1]), np.zeros((0, 2), np.float32)])
    torch.save({"w": torch.zeros(1), "evil": Evil()}, OUT / "evil.pth")


main()
