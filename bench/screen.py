#!/usr/bin/env python3
"""Try rules and recipes on a GPU: many small trainings at once, in PyTorch, on regions and labels that ferkd stored.

    screen.py prepare TRAIN LABELS HELD FOLDER          # once: images and labels in two files; HELD: a folder of those held out
    screen.py run FOLDER SPECS.json OUT.jsonl [SECONDS] # specs: [{"name": ..., "seed": 1, "method": "ferkd", ...}, ...]
    screen.py table OUT.jsonl ...                       # means over seeds
    screen.py csv OUT.jsonl ...                         # what docs/results/screening-*.csv holds

What wins here is a candidate; what counts is what ferkd itself measures (docs/results.md). Regions, their choice, targets, mixing,
optimisers and schedules are as in ferkd; a step (cut, forward, backward, update) is one CUDA graph, and several runs share the GPU in
streams of their own: ten epochs of a ResNet-18 over 7,578 images of 128 px are 3.4 s on an H200. Keys of a spec and what they are
when it does not say: DEFAULT below. Needs torch, torchvision, timm, numpy, Pillow; "prepare" needs the module ferkd.
"""
import collections
import ctypes
import io
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

CUDA = torch.cuda.is_available()  # without: the same, slowly, to try a change
DEV = torch.device("cuda" if CUDA else "cpu")
PIXELS = torch.float16 if CUDA else torch.float32
MEAN = torch.tensor([0.485, 0.456, 0.406], device=DEV).view(1, 3, 1, 1) * 255
STD = torch.tensor([0.229, 0.224, 0.225], device=DEV).view(1, 3, 1, 1) * 255
torch.backends.cudnn.benchmark = True
torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True

SIDE = 224  # of the images, pixels
CLASSES = 10
STREAMS = 4

DEFAULT = {
    "name": "", "seed": 1, "model": "resnet18", "method": "ferkd", "epochs": 10, "batch": 64,
    "size": 128, "size0": 0,                               # size0: begin there and grow
    "opt": "sgd", "lr": 0.05, "wd": 5e-4, "mom": 0.9, "b2": 0.999, "sched": "cosine", "warm": 0.5, "ema": 0.0,
    "scale": 0.08, "ls": 0.1,                              # ce: least area of a region, smoothing
    "T": 0.6, "area": 0.35, "area2": 0.0,                  # ferkd: temperature, least area, the same at the end
    "hard": 0.0, "right": 0.0,                             # ferkd: share of the ground truth; where the teacher agrees with it
    "nmix": 0.0,                                           # ferkd: share of the label among the data set's classes alone
    "topk": 20, "rmax": 8, "rpi": 1,                       # probabilities, regions stored; regions of one image in a batch
    "reflip": False, "jit": 0.0,                           # mirror stored regions anew, move their edges
    "st": 1.0, "a10": 0.0, "n10": 0.0,                     # student's temperature; share of a loss among the data set's classes
    "mix": "none", "scope": "image", "prob": 1.0, "ma": 0.2, "ca": 1.0, "off": 1.0,
}


# --- images and labels in two files -------------------------------------------------------------

class Box(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint32) for n in ("top", "left", "height", "width")]


class Region(ctypes.Structure):
    _fields_ = [("box", Box), ("flip", ctypes.c_bool)]


def prepare(train, labels, held, folder):
    from PIL import Image
    import ferkd
    from ferkd._library import Sampler, lib

    lib.ferkd_region_at.argtypes = [ctypes.POINTER(Sampler)] + [ctypes.c_uint32] * 4
    lib.ferkd_region_at.restype = Region
    store = ferkd.Store(labels)
    sampler = lib.ferkd_store_about(store._store).contents.sampler
    images = [(c, f) for c in sorted(os.listdir(train)) for f in sorted(os.listdir(f"{train}/{c}"))]
    out = {k: [] for k in ("idx", "prob", "truth", "held", "box", "flip", "sizes")}
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/images.bin", "wb") as blob:
        for i, (c, f) in enumerate(images):
            file = io.BytesIO()
            Image.open(f"{train}/{c}/{f}").convert("RGB").resize((SIDE, SIDE)).save(file, "WEBP", quality=50)
            blob.write(file.getvalue())
            label = store[i]
            regions = [lib.ferkd_region_at(ctypes.byref(sampler), i, r, SIDE, SIDE) for r in range(store.regions)]
            out["idx"].append(label["index"])
            out["prob"].append(label["prob"].astype(np.float16))
            out["truth"].append(store.truth(i))
            out["held"].append(os.path.exists(f"{held}/{c}/{f}"))
            out["box"].append([(g.box.top, g.box.left, g.box.height - 1, g.box.width - 1) for g in regions])
            out["flip"].append([g.flip for g in regions])
            out["sizes"].append(len(file.getvalue()))
    kinds = {"box": np.uint8, "truth": np.uint8, "sizes": np.uint32}
    np.savez_compressed(f"{folder}/labels.npz", **{k: np.array(v, kinds.get(k)) for k, v in out.items()})


class Data:
    def __init__(self, folder):
        from PIL import Image
        z = {k: v for k, v in np.load(f"{folder}/labels.npz").items()}
        blob = np.memmap(f"{folder}/images.bin", np.uint8, "r")
        sizes = z["sizes"].astype(np.int64)
        ends = np.cumsum(sizes)
        x = np.empty((len(ends), 3, SIDE, SIDE), np.uint8)

        def decode(i):
            file = io.BytesIO(blob[ends[i] - sizes[i]:ends[i]].tobytes())
            x[i] = np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(decode, range(len(ends))))
        self.x = torch.from_numpy(x).to(DEV)
        self.idx, self.prob = z["idx"].astype(np.int64), z["prob"].astype(np.float32)
        self.truth = z["truth"].astype(np.int64)
        self.box, self.flip = z["box"].astype(np.float32), z["flip"]
        self.box[..., 2:] += 1
        self.area = self.box[..., 2] * self.box[..., 3] / SIDE ** 2
        self.tune, self.held = np.where(~z["held"])[0], np.where(z["held"])[0]
        self.views = {}

    def view(self, size):
        """The images held out: short side size / 0.875, its centre."""
        if size not in self.views:
            zero, side = torch.zeros(1, device=DEV), torch.full((1,), float(SIDE), device=DEV)
            big = int(size / 0.875)
            first = (big - size) // 2
            w = filters(zero, side, zero, big)[0][first:first + size]
            held = torch.from_numpy(self.held).to(DEV)
            x = torch.cat([normal(w @ self.x[c].float() @ w.T) for c in held.split(128)])
            self.views[size] = x.contiguous(memory_format=torch.channels_last), torch.from_numpy(self.truth[self.held]).to(DEV)
        return self.views[size]


# --- regions ------------------------------------------------------------------------------------

def normal(x):
    return (x.round() - MEAN) / STD


def filters(first, length, flip, size):
    """Pillow's bilinear filter, wider when it shrinks: [B, size, SIDE] for boxes from first on."""
    length = length.view(-1, 1, 1)
    scale = length / size
    i = (torch.arange(size, device=DEV) + 0.5).view(1, -1, 1) * scale
    i = torch.where(flip.view(-1, 1, 1) > 0, length - i, i)
    j = (torch.arange(SIDE, device=DEV) + 0.5).view(1, 1, -1) - first.view(-1, 1, 1)
    w = (1 - (j - i).abs() / scale.clamp(min=1.0)).clamp(min=0) * ((j > 0) & (j < length))
    return w / w.sum(2, keepdim=True)


def cut(x, image, box, flip, size):
    rows = filters(box[:, 0], box[:, 2], torch.zeros_like(flip), size).to(PIXELS)
    columns = filters(box[:, 1], box[:, 3], flip, size).to(PIXELS)
    return normal((rows[:, None] @ x[image].to(PIXELS) @ columns[:, None].transpose(2, 3)).float())


def draw_boxes(rng, n, least):
    """torchvision's RandomResizedCrop."""
    box = np.tile(np.array([0, 0, SIDE, SIDE], np.float32), (n, 1))
    left = np.arange(n)
    for _ in range(10):
        area = SIDE * SIDE * rng.uniform(least, 1, len(left))
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), len(left)))
        w, h = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
        fits = (w <= SIDE) & (h <= SIDE) & (w > 0) & (h > 0)
        at, w, h = left[fits], w[fits], h[fits]
        box[at] = np.stack([np.floor(rng.random(len(at)) * (SIDE - h + 1)), np.floor(rng.random(len(at)) * (SIDE - w + 1)), h, w], 1)
        left = left[~fits]
    return box


def move_edges(rng, box, share):
    top, left, h, w = box.T

    def moved(edge, by):
        return edge + rng.uniform(-1, 1, len(edge)) * by * share

    t, l = moved(top, h).clip(0, SIDE - 8), moved(left, w).clip(0, SIDE - 8)
    b, r = moved(top + h, h).clip(t + 8, SIDE), moved(left + w, w).clip(l + 8, SIDE)
    return np.rint(np.stack([t, l, b - t, r - l], 1)).astype(np.float32)


# --- what a run sees ----------------------------------------------------------------------------

def outputs(s):
    return CLASSES if s["method"] == "ce" else 1000


def size_at(s, epoch):
    grown = epoch / max(2 / 3 * s["epochs"], 1)
    if not s["size0"] or grown >= 1:
        return s["size"]
    return s["size0"] + 32 * int(grown * ((s["size"] - s["size0"]) // 32 + 1))


def sizes_of(s):
    return tuple(sorted({size_at(s, e) for e in range(s["epochs"])}))


def usable(d, s, least):
    """[images, regions]: which are trained on; the largest two of an image always are."""
    area = d.area[d.tune]
    u = np.ones_like(area, bool)
    if s["method"] == "ferkd":
        u = (area >= least) | (area >= np.sort(area, 1)[:, -2:-1])
    u[:, s["rmax"]:] = False
    u[~u.any(1), 0] = True
    return u


def visits(d, s, rng, passes):
    """[images, looks]: the region of each look; all usable ones before any comes again."""
    n, looks = len(d.tune), passes * s["rpi"]
    out = np.empty((n, looks), np.int64)
    u = usable(d, s, s["area"])
    count = u.sum(1)
    order = np.zeros(u.shape, np.int64)
    for t in range(looks):
        if s["area2"]:
            u = usable(d, s, s["area"] + (s["area2"] - s["area"]) * t / max(looks - 1, 1))
            out[:, t] = np.where(u, rng.random(u.shape), -1).argmax(1)
            continue
        anew = t % count == 0
        if anew.any():
            order[anew] = np.argsort(np.where(u[anew], rng.random((anew.sum(), u.shape[1])), 2.0), 1)
        out[:, t] = order[np.arange(n), t % count]
    return out, u


def targets(d, s):
    """Of every image (ce) or region: classes, what each has over all others, what these have."""
    C = outputs(s)
    if s["method"] == "ce":
        n = len(d.truth)
        return d.truth[:, None], np.full((n, 1), 1 - s["ls"], np.float32), np.full(n, s["ls"] / C, np.float32)
    n, k = d.idx.shape[0] * d.idx.shape[1], s["topk"]
    truth = np.repeat(d.truth, d.idx.shape[1])
    idx = d.idx[..., :k].reshape(n, k)
    p = d.prob[..., :k].reshape(n, k).astype(np.float64)
    told = p > 0
    others = C - told.sum(1)
    rest = (1 - p.sum(1)).clip(0) / np.maximum(others, 1)
    power = 1 / (s["T"] if s["method"] == "ferkd" else 1.0)
    p, rest = np.where(told, p ** power, 0), rest ** power
    total = p.sum(1) + rest * others
    p, rest = p / total[:, None], rest / total
    own = told & (idx < CLASSES)
    inside = (p * own).sum(1)
    choice = np.where(own.any(1), idx[np.arange(n), own.argmax(1)], truth)
    hard = np.where(choice == truth, max(s["hard"], s["right"]), s["hard"])
    hard = np.where(inside > 0, hard, np.maximum(hard, s["nmix"]))
    narrow = np.where(inside > 0, s["nmix"], 0)
    more = np.where(told, p - rest[:, None], 0) * (1 - hard - narrow)[:, None]
    more += p * own / np.maximum(inside, 1e-9)[:, None] * narrow[:, None]
    return (np.concatenate([idx, truth[:, None]], 1), np.concatenate([more, hard[:, None]], 1).astype(np.float32),
            (rest * (1 - hard - narrow)).astype(np.float32))


def mixing(s, rng, steps, rows):
    """Lambda and box of each row; a box of -1 is none."""
    n = rows if s["scope"] == "image" else steps
    on = (rng.random(n) < s["prob"]) & (np.arange(n) < s["off"] * n)
    cutting = rng.random(n) < 0.5 if s["mix"] == "both" else np.full(n, s["mix"] == "cutmix")
    lam = np.where(cutting, rng.beta(s["ca"], s["ca"], n), rng.beta(s["ma"], s["ma"], n))
    half = (s["size"] * np.sqrt(1 - lam)).astype(int) // 2
    x, y = rng.integers(0, s["size"], n), rng.integers(0, s["size"], n)
    box = np.stack([y - half, x - half, y + half, x + half], 1).clip(0, s["size"]).astype(np.float32) / s["size"]
    lam = np.where(cutting, 1 - (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]), lam)
    lam = np.where(on, lam, 1.0).astype(np.float32)
    box[~(cutting & on)] = -1
    return np.repeat(lam, rows // n), np.repeat(box, rows // n, 0)


def rates(s, steps, per_epoch):
    def cosine(a, b, x):
        return b + 0.5 * (a - b) * (1 + np.cos(np.pi * np.clip(x, 0, 1)))

    t = np.arange(steps)
    lr, warm, up = s["lr"], s["warm"] * per_epoch, 0.3 * steps
    if s["sched"] == "one-cycle":
        return np.where(t < up, cosine(lr / 25, lr, t / up), cosine(lr, 0, (t - up) / (steps - up)))
    return np.where(t < warm, lr * (t + 1) / (warm + 1), cosine(lr, 0, (t - warm) / (steps - warm)))


def plan(d, s):
    """All that a run will see, step by step."""
    rng = np.random.default_rng(s["seed"] * 7919 + 13)
    n, batch, rpi = len(d.tune), s["batch"], s["rpi"]
    per_epoch = n // batch
    steps = per_epoch * s["epochs"]
    groups = steps * (batch // rpi)
    passes = -(-groups // n)
    at = np.concatenate([rng.permutation(n) for _ in range(passes)])[:groups]
    turn = np.repeat(np.arange(passes), n)[:groups]
    rows = np.repeat(at, rpi)
    image = d.tune[rows]
    regions = d.area.shape[1]

    def mirrored():
        return (rng.random(len(rows)) < 0.5).astype(np.float32)

    def stored(region):
        return d.box[image, region], d.flip[image, region].astype(np.float32), image * regions + region

    def fresh():
        return draw_boxes(rng, len(rows), s["scale"]), mirrored(), image

    soft = s["method"] != "ce"
    if soft:
        looks, u = visits(d, s, rng, passes)
        box, flip, row = stored(np.stack([looks[at, turn * rpi + m] for m in range(rpi)], 1).reshape(-1))
        flip = mirrored() if s["reflip"] else flip
        box = move_edges(rng, box, s["jit"]) if s["jit"] else box
    else:
        box, flip, row = fresh()
    p = {"image": image, "box": box, "flip": flip, "row": row}
    if s["mix"] != "none":
        if s["scope"] == "image":
            other = stored(np.where(u[rows], rng.random((len(rows), regions)), -1.0).argmax(1)) if soft else fresh()
            p.update(image2=image, box2=other[0], flip2=other[1], row2=other[2])
        else:
            back = np.arange(len(rows)).reshape(-1, batch)[:, ::-1].reshape(-1)
            p.update({k + "2": v[back] for k, v in p.items()})
        p["lam"], p["mixbox"] = mixing(s, rng, steps, len(rows))
    p = {k: v.reshape(steps, batch, *v.shape[1:]) for k, v in p.items()}
    t = np.arange(steps) + 1.0
    p.update(lr=rates(s, steps, per_epoch).astype(np.float32), c1=(1 / (1 - 0.9 ** t)).astype(np.float32),
             c2=(1 / (1 - s["b2"] ** t)).astype(np.float32))
    return p, per_epoch


# --- networks -----------------------------------------------------------------------------------

def make_model(name, classes, seed):
    """torchvision's, or timm's; "resnet18d+silu" has another activation."""
    torch.manual_seed(seed)
    base, _, act = name.partition("+")
    if base in ("resnet18", "resnet34", "resnet50", "mobilenet_v2"):
        import torchvision
        more = {"dropout": 0.0} if base == "mobilenet_v2" else {}
        return getattr(torchvision.models, base)(num_classes=classes, **more)
    import timm
    more = {"zero_init_last": False} if "resne" in base else {}
    if act:
        more["act_layer"] = {"silu": nn.SiLU, "mish": nn.Mish, "relu": nn.ReLU, "gelu": nn.GELU}[act]
    return timm.create_model(base, num_classes=classes, **more)


# --- a slot: one captured step, for one run after the other ----------------------------------------

def signature(s):
    return s["model"], outputs(s), s["batch"], sizes_of(s), s["opt"], s["mix"] != "none", s["ema"] > 0


class Slot:
    TABLES = ("tidx", "tmore", "trest", "ttruth")
    KNOBS = ("wd", "mom", "b2", "st", "a10", "n10", "ema")

    def __init__(self, d, s, most_steps):
        self.d, self.signature, self.most_steps = d, signature(s), most_steps
        self.classes, self.opt, self.mixes, self.averages = outputs(s), s["opt"], s["mix"] != "none", s["ema"] > 0
        self.stream = torch.cuda.Stream() if CUDA else None
        self.model = self.network(s, 0).train()
        self.params = list(self.model.parameters())
        self.decayed = [i for i, p in enumerate(self.params) if p.dim() > 1]
        self.first = [torch.zeros_like(p) for p in self.params]
        self.second = [torch.zeros_like(p) for p in self.params]
        self.step = torch.zeros(1, dtype=torch.int64, device=DEV)
        self.knob = {k: torch.zeros((), device=DEV) for k in self.KNOBS}
        self.loss = torch.zeros((), device=DEV)
        self.room, self.graphs = {}, {}
        if self.averages:
            self.mean = self.network(s, 0).eval()
            self.own_state, self.mean_state = ([t for t in m.state_dict().values() if t.is_floating_point()] for m in (self.model, self.mean))

    def network(self, s, seed):
        return make_model(s["model"], self.classes, seed).to(DEV).to(memory_format=torch.channels_last)

    def keep(self, name, array):
        """What graphs read stays where it is."""
        t = torch.from_numpy(np.ascontiguousarray(array))
        if name not in self.room:
            n = t.shape[0] if name in self.TABLES else max(self.most_steps, t.shape[0])
            self.room[name] = torch.zeros((n, *t.shape[1:]), dtype=t.dtype, device=DEV)
        to = self.room[name]
        if name in ("tidx", "tmore"):
            t = F.pad(t, (0, to.shape[1] - t.shape[1]))
        to[:len(t)].copy_(t)

    def start(self, s):
        self.s = s
        if CUDA:
            torch.cuda.current_stream().wait_stream(self.stream)
        sched, self.per_epoch = plan(self.d, s)
        truth = self.d.truth if s["method"] == "ce" else np.repeat(self.d.truth, self.d.area.shape[1])
        tables = dict(zip(self.TABLES, (*targets(self.d, s), truth)))
        for name, array in {**tables, **sched}.items():
            self.keep(name, array)
        for k in self.KNOBS:
            self.knob[k].fill_(s[k])
        for size in sizes_of(s):
            if size not in self.graphs:
                self.capture(size)
        fresh = self.network(s, s["seed"]).state_dict()  # the warm-up moved the weights
        self.model.load_state_dict(fresh)
        if self.averages:
            self.mean.load_state_dict(fresh)
        for t in self.first + self.second:
            t.zero_()
        self.step.zero_()
        self.seen = {k: torch.zeros(s["epochs"], device=DEV) for k in ("top1", "val_loss", "train_loss")}
        self.epoch, self.began, self.events = 0, time.time(), []
        if CUDA:
            self.stream.wait_stream(torch.cuda.current_stream())

    def capture(self, size):
        if not CUDA:
            self.graphs[size] = lambda: self.train_step(size)
            return
        torch.cuda.synchronize()
        with torch.cuda.stream(self.stream):
            for _ in range(2):
                self.train_step(size)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.train_step(size)
        self.graphs[size] = graph.replay
        torch.cuda.synchronize()

    def now(self, name):
        return self.room[name].index_select(0, self.step)[0]

    def target(self, row):
        y = self.room["trest"][row][:, None].expand(-1, self.classes).contiguous()
        return y.scatter_add(1, self.room["tidx"][row], self.room["tmore"][row])

    def hard(self, row):
        return F.one_hot(self.room["ttruth"][row], CLASSES).float() * 0.9 + 0.1 / CLASSES

    def batch(self, size):
        x = cut(self.d.x, self.now("image"), self.now("box"), self.now("flip"), size)
        y, hard = self.target(self.now("row")), self.hard(self.now("row"))
        if self.mixes:
            x2 = cut(self.d.x, self.now("image2"), self.now("box2"), self.now("flip2"), size)
            lam, box = self.now("lam"), self.now("mixbox") * size
            i = torch.arange(size, device=DEV) + 0.5
            down, across = ((i > box[:, k:k + 1]) & (i < box[:, k + 2:k + 3]) for k in (0, 1))
            inside = (down[:, :, None] & across[:, None]).float()
            share = torch.where(box[:, 0].view(-1, 1, 1) < 0, lam.view(-1, 1, 1), 1 - inside)[:, None]
            x = share * x + (1 - share) * x2
            lam = lam[:, None]
            y = lam * y + (1 - lam) * self.target(self.now("row2"))
            hard = lam * hard + (1 - lam) * self.hard(self.now("row2"))
        return x.contiguous(memory_format=torch.channels_last), y, hard

    def train_step(self, size):
        k = self.knob
        x, y, hard = self.batch(size)
        with torch.autocast(DEV.type, torch.bfloat16, cache_enabled=False):
            z = self.model(x)
        z = z.float()
        loss = -(y * F.log_softmax(z / k["st"], 1)).sum(1).mean() * k["st"] ** 2
        narrow = y[:, :CLASSES] / y[:, :CLASSES].sum(1, keepdim=True).clamp(min=1e-6)
        narrow = k["n10"] * narrow + (1 - k["n10"]) * hard
        loss = (1 - k["a10"]) * loss - k["a10"] * (narrow * F.log_softmax(z[:, :CLASSES], 1)).sum(1).mean()
        self.update(list(torch.autograd.grad(loss, self.params)))
        self.loss.copy_(loss.detach())
        self.step += 1

    @torch.no_grad()
    def update(self, g):
        k, p = self.knob, self.params
        heavy = [p[i] for i in self.decayed]
        if self.opt == "sgd":
            torch._foreach_add_([g[i] for i in self.decayed], torch._foreach_mul(heavy, k["wd"]))
            torch._foreach_mul_(self.first, k["mom"])
            torch._foreach_add_(self.first, g)
            u = torch._foreach_mul(self.first, k["mom"])
            torch._foreach_add_(u, g)
        else:
            torch._foreach_lerp_(self.first, g, 0.1)
            torch._foreach_mul_(self.second, k["b2"])
            squares = torch._foreach_mul(g, g)
            torch._foreach_mul_(squares, 1 - k["b2"])
            torch._foreach_add_(self.second, squares)
            root = torch._foreach_sqrt(torch._foreach_mul(self.second, self.now("c2")))
            torch._foreach_add_(root, 1e-8)
            u = torch._foreach_div(torch._foreach_mul(self.first, self.now("c1")), root)
            torch._foreach_add_([u[i] for i in self.decayed], torch._foreach_mul(heavy, k["wd"]))
        torch._foreach_mul_(u, self.now("lr"))
        torch._foreach_sub_(p, u)
        if self.averages:
            t = self.step[0].float()
            ahead = torch._foreach_sub(self.own_state, self.mean_state)
            torch._foreach_mul_(ahead, 1 - torch.minimum(k["ema"], (1 + t) / (10 + t)))
            torch._foreach_add_(self.mean_state, ahead)

    def run_epoch(self):
        if len(self.events) >= 2:
            self.events[-2].synchronize()
        step = self.graphs[size_at(self.s, self.epoch)]
        with torch.cuda.stream(self.stream):
            for _ in range(self.per_epoch):
                step()
            self.evaluate()
            if CUDA:
                self.events.append(torch.cuda.Event())
                self.events[-1].record()
        self.epoch += 1
        return self.epoch == self.s["epochs"]

    def evaluate(self):
        x, truth = self.d.view(self.s["size"])
        m = self.mean if self.averages else self.model
        m.eval()
        with torch.no_grad(), torch.autocast(DEV.type, torch.bfloat16):
            z = torch.cat([m(c) for c in x.split(1024)]).float()[:, :CLASSES]
        self.model.train()
        self.seen["top1"][self.epoch] = (z.argmax(1) == truth).float().mean() * 100
        self.seen["val_loss"][self.epoch] = F.cross_entropy(z, truth)
        self.seen["train_loss"][self.epoch] = self.loss

    def result(self):
        if CUDA:
            self.stream.synchronize()
        spec = {k: v for k, v in self.s.items() if k in ("name", "seed") or v != DEFAULT.get(k)}
        return {"spec": spec, "secs": round(time.time() - self.began, 1),
                **{k: [round(x, 4) for x in v.tolist()] for k, v in self.seen.items()}}


# --- many runs ----------------------------------------------------------------------------------

def run(folder, specs, out, seconds="1e9"):
    end = time.time() + float(seconds)
    d = Data(folder)
    todo = [{**DEFAULT, **s} for s in json.load(open(specs))]
    unknown = {k for s in todo for k in s} - set(DEFAULT)
    if unknown:
        sys.exit(f"{specs}: no such keys: {', '.join(sorted(unknown))}; there are {', '.join(DEFAULT)}")
    most = max(s["epochs"] * (len(d.tune) // s["batch"]) for s in todo)
    idle, f = [], open(out, "a")

    def begin(slot):
        """The next run, in a slot that has its step captured if there is one."""
        if slot:
            idle.append(slot)
        if not todo or time.time() > end:
            return None
        like = [i for i, s in enumerate(todo[:40]) if slot and signature(s) == slot.signature]
        s = todo.pop(like[0] if like else 0)
        fit = [x for x in idle if x.signature == signature(s)]
        if fit:
            idle.remove(fit[0])
        slot = fit[0] if fit else Slot(d, s, most)
        slot.start(s)
        return slot

    slots = [begin(None) for _ in range(STREAMS)]
    while any(slots):
        for i, slot in enumerate(slots):
            if slot and slot.run_epoch():
                r = slot.result()
                print(json.dumps(r), file=f, flush=True)
                print(f"{r['spec']['name']} seed {r['spec']['seed']}: {r['top1'][-1]:.2f}, loss {r['val_loss'][-1]:.3f} ({r['secs']} s)", flush=True)
                slots[i] = begin(slot)


def read(files):
    return [json.loads(line) for f in files for line in open(f)]


def table(*files):
    rows = collections.OrderedDict()
    for r in read(files):
        rows.setdefault(r["spec"].get("name"), []).append(r)
    for name, all_of in rows.items():
        top1, loss = (np.mean([r[k][-1] for r in all_of]) for k in ("top1", "val_loss"))
        print(f"{name:28} {top1:6.2f} loss {loss:.4f} ", *(f"{r['spec']['seed']}:{r['top1'][-1]:.2f}" for r in all_of))


def csv(*files):
    print("name,seed,spec,top1_by_epoch,val_loss")
    for r in read(files):
        spec = {k: v for k, v in r["spec"].items() if k not in ("name", "seed")}
        words = " ".join(f"{k}={v}" for k, v in spec.items())
        print(r["spec"].get("name"), r["spec"]["seed"], words, " ".join(f"{a:.2f}" for a in r["top1"]), r["val_loss"][-1], sep=",")


if __name__ == "__main__":
    verbs = {"prepare": (prepare, 4, 4), "run": (run, 3, 4), "table": (table, 1, 1000), "csv": (csv, 1, 1000)}
    verb, least, most = verbs.get(sys.argv[1] if len(sys.argv) > 1 else "", (None, 0, 0))
    if not verb or not least <= len(sys.argv) - 2 <= most:
        sys.exit(__doc__)
    verb(*sys.argv[2:])
