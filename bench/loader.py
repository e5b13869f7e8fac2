#!/usr/bin/env python3
"""loader.py DATA STORE [SIZE]: regions a second into a training loop, ferkd's loader against torchvision's RandomResizedCrop
with a DataLoader of 2 workers, alternately in one run. Both give normalised float tensors of SIZE px (128)."""
import os
import statistics
import sys
import time
from pathlib import Path

import torch
import torchvision
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
import ferkd  # noqa: E402
import ferkd.torch  # noqa: E402

BATCH, BATCHES, REPEATS = 64, 60, int(os.environ.get("REPEATS", "5"))


def rate(iterator):
    for _ in range(5):  # warm-up: workers start
        next(iterator)
    start = time.perf_counter()
    for _ in range(BATCHES):
        x, y = next(iterator)
    return BATCH * BATCHES / (time.perf_counter() - start)


def theirs(data, size):
    t = transforms.Compose([transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
                            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    loader = torch.utils.data.DataLoader(torchvision.datasets.ImageFolder(data, t), BATCH, shuffle=True, num_workers=2,
                                         drop_last=True, persistent_workers=True, prefetch_factor=4)
    while True:
        yield from loader


def ours(data, store, size, per_image):
    return iter(ferkd.torch.Regions(whole=True, data=data, labels=store, size=size, batch=BATCH, epochs=1000, seed=1,
                                    threads=2, regions_per_image=per_image))


def main():
    data, store = sys.argv[1:3]
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 128
    rates = {"torchvision": [], "ferkd": [], "ferkd4": []}
    for _ in range(REPEATS):
        for name, make in (("torchvision", lambda: theirs(data, size)), ("ferkd", lambda: ours(data, store, size, 1)),
                           ("ferkd4", lambda: ours(data, store, size, 4))):
            iterator = make()
            rates[name].append(rate(iterator))
            del iterator
    m = {k: statistics.median(v) for k, v in rates.items()}
    spread = {k: f"{min(v):.0f} to {max(v):.0f}" for k, v in rates.items()}
    print(f"bench loader-{size} ours {m['ferkd']:.0f} theirs {m['torchvision']:.0f} ratio {m['ferkd'] / m['torchvision']:.2f}"
          f"  (img/s; {spread['ferkd']}, {spread['torchvision']}; torch {torch.__version__})")
    print(f"bench loader-{size}-4regions ours {m['ferkd4']:.0f} theirs {m['torchvision']:.0f} "
          f"ratio {m['ferkd4'] / m['torchvision']:.2f}")


if __name__ == "__main__":
    main()
