#!/usr/bin/env python3
"""flips.py FERKD DATA TEACHER [SHARE [FOLDER]]: does "ferkd inspect --suspects" find labels that were changed on purpose?

Links the images of DATA (a folder of class folders) into FOLDER/d (default: a temporary folder, removed behind it) with SHARE
(0.05) of them under a class drawn at random, labels 4 regions of each with TEACHER, and says which part of the first N suspects, N
the number of changed labels, are changed ones."""
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile


def main():
    ferkd, data, teacher = sys.argv[1:4]
    share = float(sys.argv[4]) if len(sys.argv) > 4 else 0.05
    keep = sys.argv[5] if len(sys.argv) > 5 else None
    if keep and os.path.exists(f"{keep}/d"):
        sys.exit(f"flips.py: {keep}/d is there already; remove it or name another folder")
    rng = random.Random(1)
    classes = sorted(c for c in os.listdir(data) if os.path.isdir(f"{data}/{c}"))
    images = [(c, f) for c in classes for f in sorted(os.listdir(f"{data}/{c}"))]
    changed = set(rng.sample(range(len(images)), round(share * len(images))))
    with contextlib.nullcontext(keep) if keep else tempfile.TemporaryDirectory() as work:
        names = set()
        for c in classes:
            os.makedirs(f"{work}/d/{c}")
        for i, (c, f) in enumerate(images):
            to = rng.choice([k for k in classes if k != c]) if i in changed else c
            name = f"{to}/{i:07d}{os.path.splitext(f)[1]}"
            os.symlink(os.path.abspath(f"{data}/{c}/{f}"), f"{work}/d/{name}")
            if i in changed:
                names.add(name)
        subprocess.run([ferkd, "label", f"{work}/d", "--teacher", teacher, "--regions", "4", "--seed", "1", "-o",
                        f"{work}/l.ferkd"], check=True, stdout=subprocess.DEVNULL)
        out = subprocess.run([ferkd, "inspect", f"{work}/l.ferkd", "--suspects", str(len(changed)), "--json"], check=True,
                             capture_output=True, text=True).stdout
        suspects = json.loads(out)
        found = sum(s["name"] in names for s in suspects)
        print(f"{len(images)} images, {len(changed)} labels changed; of the first {len(suspects)} suspects {found} are changed ones: "
              f"precision {found / len(changed):.3f}")


main()
