#!/usr/bin/env python3
"""Random sets of options through ferkd train, and what they trained through eval and export: options.py FERKD [SEED [COUNT]]

Each run is a second's work on the test images. A set may be refused (a usage error, and what it says is listed in the
end); what must not happen is a crash, a failed assertion, a bug that ferkd itself reports, a hang, or a run that was
trained and cannot be evaluated or exported. The command of whatever went wrong is printed, and the exit status is 1."""
import os
import random
import shutil
import subprocess
import sys
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEACHER = f"{TESTS}/data/onnx/mixed17.onnx"
SAID = "--teacher-size 16 --teacher-mean 0.5 --teacher-std 0.5"
CLASSES = {"ant": ("rgb",), "bee": ("exif",), "cat": ("palette",), "dog": ("grey", "la")}

# Of each line one at random, or none: the share of runs that have any comes first.
OPTIONS = [
    (1.0, "--model small28", "--model small28+gelu", "--model resnet20", "--model vit.json", "--model vit.json"),
    (1.0, "--size 8", "--size 16", "--size 28", "--size 32", "--size 48", "--size 64 --size-start 32",
     "--size 56 --size-start 24", "--size 96 --size-start 32 --val-size 64", "--size 32 --val-size 48"),
    (1.0, "--epochs 1", "--epochs 2", "--epochs 3"),
    (0.7, "--batch 1", "--batch 2", "--batch 3", "--batch 8", "--batch 16", "--batch 1000"),
    (0.5, "--optimizer adamw", "--optimizer sgd", "--optimizer adamw --lr 0.1", "--lr 0", "--optimizer adamw --layer-decay 0.5",
     "--head-rate 3", "--decay-all"),
    (0.4, "--schedule cosine", "--schedule step --step-epochs 1", "--schedule constant --warmup-epochs 3", "--lr-min 0.1"),
    (0.5, "--ema 0.9", "--clip 0.1", "--accumulate 2", "--accumulate 7", "--lean", "--ema 0.99 --accumulate 3",
     "--max-memory 1", "--max-memory 3", "--memory"),
    (0.4, "--mix mixup", "--mix cutmix", "--mix both", "--mix both --mix-scope image", "--mix both --mix-off-epoch 1",
     "--mix cutmix --mix-scope image --mix-prob 0.5"),
    (0.3, "--precision bf16", "--precision f32", "--tune off", "--tune full", "--precision bf16 --tune off"),
    (0.3, "--init r28.onnx", "--init r28", "--init rvit", "--init r28.onnx --freeze", "--init rvit --probe-epochs 1",
     f"--init {TEACHER} --mean 0.5 --std 0.5"),
    (0.6, "--val val"),
    (0.2, "--scale-min 0.01", "--scale-min 1", "--flip 1", "--ratio-min 0.1", "--filter lanczos", "--crop-pct 0.1",
     "--save-every 1", "--threads 1", "--threads 7", "--label-smoothing 1", "--hard-smoothing 1"),
]
TEACHERS = ["", "--label-classes data", "--label-classes teacher", "--kd-alpha 0", "--kd-alpha 1", "--kd-temperature 8"]
STORES = ["", "--mirror always", "--mirror never", "--regions-per-image 2", "--regions-per-image 4", "--temperature 2"]
RULES = ["auto", "ferkd-paper", "relabel", "fkd", "max < 50%: discard; else: mix 0.5", "max > 0: discard",
         "area < 90% of image: hard; temperature fit", "focus 1; else: blur max",
         "inside > 90%..0%..50%: smooth 0.3; else: teacher 0.1"]


def call(words, seconds=120):
    """(exit status, the last of what it said); 124: it hangs."""
    try:
        p = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return 124, "no end"
    return p.returncode, (p.stderr.strip().splitlines() or [""])[-1]


def prepare(ferkd):
    for split in ("train", "val"):
        for name, beginnings in CLASSES.items():
            os.makedirs(f"{split}/{name}")
            for f in os.listdir(f"{TESTS}/data/images"):
                if f.startswith(beginnings) and f.endswith((".jpg", ".png")):
                    shutil.copy(f"{TESTS}/data/images/{f}", f"{split}/{name}")
    shutil.copy(f"{TESTS}/data/vit.json", "vit.json")
    small = "--method ce --batch 8 --epochs 1"
    for words in (f"label train --teacher {TEACHER} {SAID} --regions 8 --topk 4 --seed 1 -o l.ferkd",
                  f"train train {small} --model small28 --size 28 -o r28", f"train train {small} --model vit.json --size 32 -o rvit",
                  "export r28 -o r28.onnx"):
        status, said = call([ferkd] + words.split())
        if status:
            sys.exit(f"{words}: {said}")


def draw(r):
    method = r.choice(["ce", "kd", "funmatch", "deit", "fkd", "ferkd"])
    words = ["--method", method, "--seed", str(r.randrange(1000))]
    if method in ("kd", "funmatch", "deit"):
        words += f"--teacher {TEACHER} {SAID} {r.choice(TEACHERS)}".split()
    if method in ("fkd", "ferkd"):
        words += f"--labels l.ferkd {r.choice(STORES)}".split()
    if method == "ferkd":
        words += ["--calibrate", r.choice(RULES)]
    for share, *choices in OPTIONS:
        words += r.choice(choices).split() if r.random() < share else []
    return words


def main():
    ferkd = os.path.abspath(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    r = random.Random(seed)
    refused = {}
    trained = failed = 0

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        os.environ["XDG_CACHE_HOME"] = work
        prepare(ferkd)
        for _ in range(count):
            words = [ferkd, "train", "train"] + draw(r) + ["-o", "run"]
            shutil.rmtree("run", ignore_errors=True)
            status, said = call(words)
            if status in (2, 6, 7):  # usage, unsupported, a limit
                refused[said] = refused.get(said, 0) + 1
                continue
            after = ([["eval", "run", "val", "--weights", w] for w in ("best", "last")] +
                     [["export", "run", "-o", "x.onnx"], ["eval", "x.onnx", "val"]])
            for more in after if status == 0 else []:
                status, said = (status, said) if status else call([ferkd] + more)
            trained += status == 0
            if status:
                failed += 1
                print(f"exit {status}: {said}\n  {' '.join(repr(w) if ' ' in w else w for w in words)}", flush=True)
        os.chdir("/")
    for said in sorted(refused):
        print(f"refused {refused[said]} times: {said}")
    print(f"{count} sets of options: {trained} trained, evaluated and exported, {sum(refused.values())} refused, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
