#!/usr/bin/env python3
"""Golden values of every op, and of 20 training steps, by PyTorch in double or float.

Reads tests/ops/cases.txt; writes tests/golden/ops.safetensors (outputs and parameter gradients) and
tests/golden/losses.txt. Needs torch, torchvision and safetensors. Inputs and weights come from a
formula that tests/ops/case.c has, too, so they are not stored.
"""
import math
import sys
import zlib
from pathlib import Path

import numpy as np
import torch

from sret import SReT
import torch.nn.functional as F
from safetensors.numpy import save_file

HERE = Path(__file__).parent
CASES = HERE.parent / "ops" / "cases.txt"


def values(n, salt):
    """n floats in [-1, 1): murmur3's finaliser of a counter."""
    h = (np.arange(n, dtype=np.uint64) + salt * 0x9E3779B9).astype(np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return ((h >> np.uint32(8)).astype(np.float64) * 2.0**-23 - 1.0).astype(np.float32)


class Case:
    def __init__(self):
        self.params = []

    def param(self, shape, kind):
        n = int(np.prod(shape))
        v = values(n, len(self.params) + 1)
        if kind == "weight":
            v = v * np.float32(1.5 / np.sqrt(n / shape[0]))
        elif kind == "norm":
            v = np.float32(1) + np.float32(0.3) * v
        elif kind == "bias":
            v = np.float32(0.2) * v
        elif kind == "const":
            v = np.float32(2) + v
        t = torch.tensor(v.reshape(shape), dtype=torch.float64, requires_grad=kind != "const")
        self.params.append((t, kind))
        return t

    def run(self, words):
        w = iter(words)

        def ints(k):
            return [int(next(w)) for _ in range(k)]

        x = None
        rest = list(w)
        i = 0
        while i < len(rest):
            op = rest[i]
            a = []
            i += 1
            while i < len(rest) and rest[i] not in OPS:
                a.append(rest[i])
                i += 1
            x = getattr(self, "op_" + op)(x, a)
        return x

    def op_in(self, x, a):
        s = [int(v) for v in a]
        return torch.tensor(values(int(np.prod(s)), 1000).reshape(s), dtype=torch.float64)

    def op_conv(self, x, a):
        out, k, s, p, g, bias = (int(v) for v in a)
        w = self.param((out, x.shape[1] // g, k, k), "weight")
        b = self.param((out,), "bias") if bias else None
        return F.conv2d(x, w, b, stride=s, padding=p, groups=g)

    def op_norm(self, x, a):
        c = x.shape[1]
        w, b = self.param((c,), "norm"), self.param((c,), "bias")
        self.params += [(None, "buffer"), (None, "buffer")]  # running statistics take two numbers
        return F.batch_norm(x, None, None, w, b, training=True)

    def op_act(self, x, a):
        kind, p, q = a[0], float(a[1]), float(a[2])
        return {"relu": F.relu, "clip": lambda v: F.hardtanh(v, p, q), "sigmoid": torch.sigmoid, "silu": F.silu,
                "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid, "leaky": lambda v: F.leaky_relu(v, p),
                "elu": lambda v: F.elu(v, p), "gelu": F.gelu, "gelu_tanh": lambda v: F.gelu(v, approximate="tanh"),
                "levels": lambda v: torch.fake_quantize_per_tensor_affine(v, p, int(-q), 0, 255),
                "tanh": torch.tanh, "erf": torch.erf, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt,
                "abs": torch.abs, "reciprocal": torch.reciprocal, "softplus": F.softplus, "softsign": F.softsign,
                "mish": F.mish}[kind](x)

    def op_pool(self, x, a):
        k, s, p, pad = (int(v) for v in a[1:])
        if a[0] == "max":
            return F.max_pool2d(x, k, s, p)
        return F.avg_pool2d(x, k, s, p, count_include_pad=bool(pad))

    def op_mean(self, x, a):
        return x.mean([int(v) for v in a[0].split(",")], keepdim=bool(int(a[1])))

    def op_dense(self, x, a):
        w = self.param((int(a[0]), x.shape[-1]), "weight")
        return F.linear(x, w, self.param((int(a[0]),), "bias"))

    def op_reshape(self, x, a):
        return x.reshape([int(v) for v in a])

    def op_transpose(self, x, a):
        return x.permute([int(v) for v in a])

    def op_slice(self, x, a):
        axis, start, count, step = (int(v) for v in a)
        return x.index_select(axis, torch.arange(start, start + count * step, step))

    def op_pad(self, x, a):
        b, e, v = int(a[0]), int(a[1]), float(a[2])
        return F.pad(x, (b, e, b, e), value=v)

    def op_softmax(self, x, a):
        return F.softmax(x, int(a[0]))

    def op_add_self(self, x, a):
        return x + x

    def op_mul_self(self, x, a):
        return x * x

    def op_concat(self, x, a):
        return torch.cat([x, x], int(a[0]))

    def op_scale(self, x, a):
        c = self.param(tuple(int(v) for v in a[1:]), "const")
        return {"mul": x * c, "add": x + c, "sub": x - c, "div": x / c}[a[0]]

    def op_train(self, x, a):
        c = self.param(tuple(int(v) for v in a[1:]), "norm")
        return {"mul": lambda: x * c, "add": lambda: x + c, "sub": lambda: x - c, "div": lambda: x / c,
                "pow": lambda: x**c, "max": lambda: torch.maximum(x, c), "min": lambda: torch.minimum(x, c)}[a[0]]()

    def op_layernorm(self, x, a):
        c = x.shape[-1]
        return F.layer_norm(x, (c,), self.param((c,), "norm"), self.param((c,), "bias"), 1e-6)

    def attend(self, x, heads, bias):
        b, t, d = x.shape
        q, k, v = x.reshape(b, t, 3, heads, d // 3 // heads).permute(2, 0, 3, 1, 4)
        s = q @ k.transpose(-2, -1) * (d / 3 / heads) ** -0.5
        if bias is not None:
            s = s + bias.repeat(b // bias.shape[0], 1, 1, 1)
        return (s.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d // 3)

    def op_attention(self, x, a):
        return self.attend(x, int(a[0]), None)

    def op_attention_bias(self, x, a):
        t = x.shape[1]
        return self.attend(x, int(a[0]), self.param((int(a[1]), int(a[0]), t, t), "norm"))

    def op_bare_dense(self, x, a):
        return F.linear(x, self.param((int(a[0]), x.shape[-1]), "weight"))

    def op_block(self, x, a):
        y = self.op_dense(F.gelu(self.op_dense(self.op_layernorm(x, []), [a[0]])), [x.shape[-1]])
        return x + (y * self.param((x.shape[-1],), "norm") if int(a[1]) else y)

    def op_att_block(self, x, a):
        y = self.op_dense(self.op_layernorm(x, []), [3 * x.shape[-1]])
        return x + self.op_dense(self.attend(y, int(a[0]), None), [x.shape[-1]])

    def op_reduce(self, x, a):
        dims, keep = [int(v) for v in a[1].split(",")], bool(int(a[2]))
        return {"avg": x.mean, "sum": x.sum, "top": x.amax, "low": x.amin,
                "l2": lambda d, keepdim: torch.linalg.vector_norm(x, 2, d, keepdim)}[a[0]](dims, keepdim=keep)

    def op_expand(self, x, a):
        return x.expand([int(v) for v in a])

    def op_gather(self, x, a):
        return x.index_select(int(a[0]), torch.tensor([int(v) for v in a[1:]]))

    def op_pointwise(self, x, a):
        return x + self.op_conv(F.silu(self.op_conv(x, [a[0], 1, 1, 0, 1, 1])), [x.shape[1], 1, 1, 0, 1, 1])

    def op_pos_enc(self, x, a):
        c = x.shape[1]
        return x + self.op_conv(x, [c, 3, 1, 1, c, 1])

    def op_gate(self, x, a):
        c = x.shape[1]
        s = F.conv2d(x.mean((2, 3), keepdim=True), self.param((c, c, 1, 1), "weight"))
        return x * torch.sigmoid(s)

    def op_gram(self, x, a):
        return x @ x.transpose(2, 3)


OPS = {n[3:] for n in dir(Case) if n.startswith("op_")}


def make_ops():
    out = {}
    for line in open(CASES):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        c = Case()
        y = c.run(words[1:])
        dy = torch.tensor(values(y.numel(), 2000).reshape(y.shape), dtype=torch.float64)
        y.backward(dy)
        out[words[0] + ".y"] = np.ascontiguousarray(y.detach().numpy(), dtype=np.float32)
        for i, (p, kind) in enumerate(c.params):
            if p is not None and p.requires_grad:
                out[f"{words[0]}.d{i}"] = np.ascontiguousarray(p.grad.numpy(), dtype=np.float32)
    save_file(out, HERE / "ops.safetensors")


UNDECAYED = ("cls_token", "pos_embed", "dist_token", "relative_position_bias_table")


def train_losses(name, model, f, lr, batch=8, size=64, steps=20, by_name=False, dtype=torch.float32):
    """SGD with Nesterov's momentum from formula weights on formula batches."""
    for i, (key, p) in enumerate(model.named_parameters()):
        v = values(p.numel(), zlib.crc32(key.encode()) & 0xFFFF if by_name else i + 1)
        if p.dim() > 1:
            v = v * np.float32(np.sqrt(6.0 / (p.numel() / p.shape[0])))
            if p.dim() == 2:  # a quiet head: larger steps are chaotic, float32 differs from float64
                v = v * np.float32(0.1)
        else:
            v = np.float32(0.1) * v + (1 if i and isinstance_norm(model, i) else 0)
        p.data = torch.tensor(v.reshape(p.shape).astype(np.float32))
    decay = [p for k, p in model.named_parameters() if p.dim() > 1 and k.split(".")[-1] not in UNDECAYED]
    rest = [p for k, p in model.named_parameters() if p.dim() <= 1 or k.split(".")[-1] in UNDECAYED]
    opt = torch.optim.SGD([{"params": decay, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0}],
                          lr=lr, momentum=0.9, nesterov=True)
    model.train().to(dtype)
    losses = []
    for s in range(steps):
        x = torch.tensor(values(batch * 3 * size * size, 5000 + s % 4).reshape(batch, 3, size, size)).to(dtype)
        y = torch.tensor([(7 * i + 3 * (s % 4)) % 10 for i in range(batch)])
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    f.write("".join(f" {v:.7g}" for v in losses) + "\n")


def isinstance_norm(model, i):
    name = list(dict(model.named_parameters()))[i]
    module = model.get_submodule(name.rsplit(".", 1)[0])
    return isinstance(module, (torch.nn.BatchNorm2d, torch.nn.LayerNorm)) and name.endswith("weight")


def peer(name, classes=1000, **how):
    """torchvision's model of this name, or timm's."""
    import timm
    import torchvision
    if name.startswith("sret"):
        return SReT(name, classes, how.get("img_size", 224))
    if name.startswith("convnext"):
        how["conv_mlp"] = False  # as Linear, whose values are the same
    if name.endswith("d") and name.startswith("resnet"):
        return timm.create_model(name, num_classes=classes, **how)
    if name.startswith(("vit", "deit", "convnext", "swin", "efficientnet", "tf_", "mobilenetv", "fbnet")):
        return timm.create_model(name, num_classes=classes, **how)
    base, _, width = name.partition("_x") if name.startswith("mobilenet_v2") else (name, "", "")
    if width:
        how["width_mult"] = float(width.replace("_", "."))
    return getattr(torchvision.models, base)(num_classes=classes, **how)


def state_of(model):
    """Names and tensors; of modules that have two names the first."""
    again = dict(model.named_parameters(remove_duplicate=False)).keys() - dict(model.named_parameters()).keys()
    return {n: t for n, t in model.state_dict().items() if n not in again}


SMALL = {"img_size": 64}
# name: learning rate, side, whether bf16 is compared, too, further arguments. Old ones number their parameters, the others use names.
# ReLU networks are trained gently: one value that rounds to the other side of a kink moves the gradient by
# percents, in PyTorch's own float32 against float64, too; 128 px average over more of them.
# In bf16 PyTorch's autocast itself is 3 to 30% from its f32 on average in those marked 0.
TRAINED = {"resnet18": (1e-3, 64, 1, {}), "mobilenet_v2": (2e-4, 128, 1, {}), "deit_tiny_patch16_224": (2e-3, 64, 1, SMALL),
           "convnext_atto": (2e-3, 64, 1, {}), "swin_tiny_patch4_window7_224": (2e-3, 64, 1, SMALL),
           "resnext50_32x4d": (2e-5, 128, 0, {}), "resnet18d": (2e-4, 112, 0, {}), "regnet_y_400mf": (2e-5, 128, 0, {}), "shufflenet_v2_x0_5": (2e-4, 128, 0, {}),
           "efficientnet_b0": (2e-3, 64, 0, {}), "tf_efficientnetv2_b0": (2e-3, 64, 0, {}), "mobilenetv3_small_100": (2e-3, 64, 0, {}),
           "mobilenetv4_conv_small": (5e-5, 64, 0, {}), "vit_small_patch14_reg4_dinov2": (2e-3, 56, 0, {"img_size": 56}),
           "vit_base_patch32_clip_quickgelu_224": (5e-4, 64, 0, SMALL), "sret_lt": (1e-3, 128, 0, {"img_size": 128})}


def make_losses(names):
    """losses.txt, of which only the lines of these names change; all if there are none."""
    path = HERE / "losses.txt"
    old = dict(line.split(" ", 1) for line in open(path) if line[0] != "#") if names else {}
    with open(path, "w") as f:
        f.write("# model, learning rate, side, bf16 too, then the losses of 20 training steps (PyTorch, float32)\n")
        for name, (lr, size, half, how) in TRAINED.items():
            if names and name not in names:
                if name in old:
                    f.write(name + " " + old[name])
                continue
            m = peer(name, 10, **how)
            for module in m.modules():  # dropout's random numbers are each program's own
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            for key in [k for k, v in m.named_modules() if type(v).__name__ == "DropPath"]:
                m.get_submodule(key).drop_prob = 0.0
            f.write(f"{name} {lr:g} {size} {half}")
            train_losses(name, m, f, lr, size=size, by_name=name not in ("resnet18", "mobilenet_v2"))


def make_counts():
    """Names and shapes of the state_dicts of all models that torchvision or timm have, too."""
    zoo = sys.argv[2:]
    with open(HERE / "state_dicts.txt", "w") as f:
        f.write("# model: number of trained parameters; then a crc32 of all lines 'name shape'\n")
        for name in zoo:
            m = peer(name, **({"img_size": 224} if "dinov2" in name else {}))
            lines = [f"{k} {'x'.join(str(v) for v in t.shape)}" for k, t in state_of(m).items()
                     if not k.endswith("num_batches_tracked")]
            n = sum(p.numel() for p in m.parameters())
            f.write(f"{name} {n} {zlib.crc32(chr(10).join(sorted(lines)).encode()):08x}\n")


def make_layers():
    """layers.txt: how many layers are above each parameter's, as timm's layer-wise learning-rate decay counts them."""
    import timm
    from timm.optim._param_groups import param_groups_layer_decay
    with open(HERE / "layers.txt", "w") as f:
        f.write("# network: crc32 of all lines 'parameter layers-above', timm " + timm.__version__ + "\n")
        for name, theirs in LAYERED:
            model = timm.create_model(theirs, num_classes=1000)
            groups = param_groups_layer_decay(model, weight_decay=0.0, layer_decay=0.5)
            m = {id(p): n for n, p in model.named_parameters()}
            lines = [f"{m[id(p)]} {round(-math.log2(g['lr_scale']))}" for g in groups for p in g["params"]]
            f.write(f"{name} {len(lines)} {zlib.crc32(chr(10).join(sorted(lines)).encode()):08x}\n")


LAYERED = [(n, n) for n in ("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "convnext_atto", "resnet18", "resnet50",
                            "efficientnet_b0", "fbnetc_100", "vit_small_patch14_reg4_dinov2",
                            "vit_base_patch32_clip_quickgelu_224")]


# make_ops.py layers | ops | losses [NAME ...] | names NAME ... (those that "ferkd info" lists)
torch.manual_seed(0)
{"ops": make_ops, "losses": lambda: make_losses(sys.argv[2:]), "names": make_counts, "layers": make_layers}[sys.argv[1]]()
