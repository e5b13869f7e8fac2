#!/usr/bin/env python3
"""ferkd against PyTorch and ONNX Runtime, alternately in one run, on random input or on real images.

usage: bench.py FERKD PEER_PYTHON [ROW ...]

A row is KIND-MODEL-PRECISION, with settings behind a colon, so that any model, size and batch can be tried:
train-resnet34-f32:size=96,batch=32. Each prints "bench ROW ours X theirs Y ratio R"; above 1 ours is better.
Rows are appended to bench/results/.
"""
import csv
import datetime
import json
import os
import platform
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SHARED = Path(os.environ.get("SHARED", ROOT.parent / "shared"))
LITE0 = SHARED / "models/efficientnet-lite0.onnx"
TRAIN = Path(os.environ.get("DATA", SHARED / "data/imagenette/train"))
REPEATS, WARMUP = int(os.environ.get("REPEATS", 7)), 2
IMAGES = int(os.environ.get("IMAGES", 1280))
ROWS = """train-resnet18-f32 train-resnet18-bf16 train-resnet50-f32 train-resnet50-bf16 train-mobilenet_v2-f32
train-mobilenet_v2-bf16 infer-resnet50-best infer-resnet18-best infer-mobilenet_v2-best infer-lite0-best
infer-resnet50-f32 infer-resnet18-f32 infer-mobilenet_v2-f32 infer-lite0-f32 endtoend-resnet18-bf16
endtoend4-resnet18-bf16 label-lite0-best share-resnet50-bf16 memory-resnet50-f32 scaling-resnet18-f32
train-deit_tiny_patch16_224-f32 train-deit_tiny_patch16_224-bf16 train-deit_small_patch16_224-f32 train-deit_small_patch16_224-bf16
infer-lite0-best:batch=1 infer-lite0-best:batch=8 infer-resnet50-best:batch=1 infer-resnet50-best:batch=8""".split()
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "99999999999", "MALLOC_TOP_PAD_": "1000000000"}


class Row:
    def __init__(self, name):
        m = re.fullmatch(r"(\w+)-([^:]+)-(f32|bf16|best)(?::(.*))?", name)
        if not m:
            sys.exit(f"bench: {name}: a row is KIND-MODEL-PRECISION[:size=N,batch=N,classes=N]")
        self.name, self.kind, self.model, self.precision = name, m[1], m[2], m[3]
        self.classes = 10
        transformer = self.model.startswith(("deit", "vit"))
        self.size = 224 if self.model == "lite0" or self.kind == "memory" or transformer else 128
        self.batch = 32 if self.model == "resnet50" or transformer else 64
        for word in filter(None, (m[4] or "").split(",")):
            key, value = word.split("=")
            setattr(self, key, int(value))
        if self.model == "lite0":
            self.model = str(LITE0)


class Side:
    """A program that times one step for each line that it is sent. Between its turns it is stopped: the threads of
    ONNX Runtime and OpenMP go on spinning for a while after their work, on the cores that the other side needs."""

    all = []

    def __init__(self, command, env, greets):
        Side.all.append(self)
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  env=os.environ | env)
        self.mode = self.p.stdout.readline().removeprefix("ready ").strip() if greets else ""
        self.peak = 0
        self.p.send_signal(signal.SIGSTOP)

    def step(self):
        self.p.send_signal(signal.SIGCONT)
        self.p.stdin.write("\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline().split()
        self.p.send_signal(signal.SIGSTOP)
        if len(line) != 2:
            for side in Side.all:
                side.p.kill()
            sys.exit(f"bench: {' '.join(self.p.args[:4])} has died; its last words are above")
        self.peak = float(line[1])
        return float(line[0])

    def warm_step(self):
        """The other side has filled the caches with its own: one step before the one that counts."""
        self.step()
        return self.step()

    def close(self):
        self.p.send_signal(signal.SIGCONT)
        self.p.stdin.close()
        self.p.wait()


def alternate(ours, theirs, repeats=REPEATS, warmup=WARMUP):
    times = ([], [])
    for i in range(warmup + repeats):
        for side, to in zip((ours, theirs), times):
            seconds = side()
            if i >= warmup:
                to.append(seconds)
    return times


def threads():
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))


def ours_command(row, kind, precision):
    return [FERKD, "bench", kind, row.model, "--batch", str(row.batch), "--size", str(row.size), "--classes",
            str(row.classes), "--precision", precision, "--lockstep"]


def peer_command(row, kind, precision, *more):
    return [PEER, str(HERE / "peer.py"), kind, "--model", row.model, "--batch", str(row.batch), "--size", str(row.size),
            "--classes", str(row.classes), "--threads", str(threads()), "--precision", precision, *more]


def steps(row):
    kind = "train" if row.kind in ("train", "memory") else "infer"
    depthwise = "mobilenet" in row.model or "efficientnet" in row.model
    peer_precision = "best" if kind == "train" and depthwise else row.precision
    theirs = Side(peer_command(row, kind, peer_precision), MALLOC, True)
    ours = Side(ours_command(row, kind, {"best": "auto"}.get(row.precision, row.precision)), {}, False)
    short = row.kind == "memory"
    t = alternate(ours.warm_step, theirs.warm_step, 2 if short else REPEATS, 1 if short else WARMUP)
    ours.close()
    theirs.close()
    if row.kind == "memory":
        return [ours.peak / 2**20], [theirs.peak / 2**20], theirs.mode, False
    return [row.batch / s for s in t[0]], [row.batch / s for s in t[1]], theirs.mode, True


def subset(folder, count):
    """Links to the first images of each class."""
    for c in sorted(p for p in TRAIN.iterdir() if p.is_dir()):
        (folder / c.name).mkdir(parents=True)
        for f in sorted(c.iterdir())[:count // 10]:
            (folder / c.name / f.name).symlink_to(f)


def ferkd_json(*words):
    out = subprocess.run([FERKD, *map(str, words), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if out.returncode:
        sys.exit(f"bench: {' '.join(map(str, words))}: {out.stderr}")
    return json.loads(out.stdout.strip().splitlines()[-1])


def end_to_end(row):
    """An epoch over real images; ours draws 1 or FKD's 4 regions an image."""
    folder = Path(tempfile.mkdtemp())
    subset(folder / "data", IMAGES)
    regions = 4 if row.kind == "endtoend4" else 1
    words = ["--method", "ce"]
    if regions > 1:
        ferkd_json("label", folder / "data", "--teacher", LITE0, "--regions", 4, "-o", folder / "labels")
        words = ["--method", "fkd", "--labels", folder / "labels"]
    precision = {"best": "auto"}.get(row.precision, row.precision)
    count = 0

    def ours():
        nonlocal count
        count += 1
        r = ferkd_json("train", "--data", folder / "data", "--run", folder / f"run{count}", "--model", row.model, "--size",
                       row.size, "--batch", row.batch, "--epochs", 1, "--regions-per-image", regions, "--precision",
                       precision, *words)
        shutil.rmtree(folder / f"run{count}")
        return 1 / r["images_per_s"]

    peer = Side(peer_command(row, "end_to_end", "best", "--data", str(folder / "data")), MALLOC, True)
    images = IMAGES // row.batch * row.batch
    t = alternate(ours, lambda: peer.step() / images, REPEATS, 1)
    peer.close()
    shutil.rmtree(folder)
    return [1 / s for s in t[0]], [1 / s for s in t[1]], peer.mode, True


def label(row):
    folder = Path(tempfile.mkdtemp())
    regions, images = 8, IMAGES // 4
    subset(folder / "data", images)
    precision = {"best": "auto"}.get(row.precision, row.precision)

    def ours():
        r = ferkd_json("label", folder / "data", "--teacher", row.model, "--regions", regions, "--batch", row.batch,
                       "--precision", precision, "--overwrite", "-o", folder / "labels")
        return r["seconds"] / (images // 10 * 10 * regions)

    peer = Side(peer_command(row, "label", "f32", "--data", str(folder / "data"), "--regions", str(regions)), MALLOC, True)
    t = alternate(ours, lambda: peer.step() / (images // 10 * 10 * regions), REPEATS, 1)
    peer.close()
    shutil.rmtree(folder)
    return [1 / s for s in t[0]], [1 / s for s in t[1]], peer.mode, True


def share(row):
    """Percent of a step inside convolutions, against the 85 that were asked for."""
    words = ("bench", "train", row.model, "--batch", row.batch, "--size", row.size, "--classes", row.classes, "--precision",
             row.precision, "--profile")
    values = []
    for _ in range(3):
        parts = ferkd_json(*words)["parts_ms"]
        values.append(100 * (parts["convolution"] + parts["depthwise"]) / sum(parts.values()))
    return values, [85.0], "the target", True


def scaling(row):
    """Ours by two threads against ours by one."""
    sides = [Side(ours_command(row, "train", row.precision), {"OMP_NUM_THREADS": str(n)}, False) for n in (2, 1)]
    t = alternate(sides[0].warm_step, sides[1].warm_step)
    for s in sides:
        s.close()
    return [row.batch / s for s in t[0]], [row.batch / s for s in t[1]], "one thread", True


KINDS = {"train": steps, "infer": steps, "memory": steps, "endtoend": end_to_end, "endtoend4": end_to_end, "label": label,
         "share": share, "scaling": scaling}


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.split(':')[1].strip()} x{os.cpu_count()}"
    return platform.machine()


def versions():
    code = ("import importlib.metadata as m\n"
            "print(' '.join(f'{p} {m.version(p)}' for p in ('torch', 'torchvision', 'onnxruntime')))")
    return subprocess.run([PEER, "-c", code], stdout=subprocess.PIPE, text=True).stdout.strip()


def commit():
    out = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True)
    return out.stdout.strip()


def spread(values):
    return f"{min(values):.2f}..{max(values):.2f}"


def note(row, ours, theirs, ratio, mode):
    path = HERE / "results/bench.csv"
    new = not path.exists()
    with path.open("a", newline="") as f:
        w = csv.writer(f)
        if new:
            w.writerow("date commit row ours theirs ratio ours_spread theirs_spread their_mode machine versions".split())
        w.writerow([datetime.date.today(), commit(), row.name, f"{statistics.median(ours):.2f}",
                    f"{statistics.median(theirs):.2f}", f"{ratio:.3f}", spread(ours), spread(theirs), mode, processor(),
                    versions()])


def main():
    for name in sys.argv[3:] or ROWS:
        row = Row(name)
        if ("lite0" in row.model and not LITE0.exists()) or (row.kind in ("endtoend", "endtoend4", "label") and
                                                              not TRAIN.exists()):
            print(f"bench {name} SKIPPED: needs {LITE0} or {TRAIN}", flush=True)
            continue
        ours, theirs, mode, more_is_better = KINDS[row.kind](row)
        x, y = statistics.median(ours), statistics.median(theirs)
        ratio = x / y if more_is_better else y / x
        print(f"bench {name} ours {x:.1f} theirs {y:.1f} ratio {ratio:.2f}  ({spread(ours)} against {spread(theirs)}, "
              f"{mode})", flush=True)
        note(row, ours, theirs, ratio, mode)


FERKD, PEER = os.path.abspath(sys.argv[1]), sys.argv[2]
random.seed(1)
main()
