"""SReT (Shen, Liu, Xing 2021) in PyTorch, as the authors' code at github.com/szq0214/SReT computes it, but with the fixed shuffle
of src/net/zoo/sret.c: what make_ops.py compares with."""
import math

import torch
from torch import nn

FORMS = {"sret_t": (32, 3.6, 1.0, (2, 4, 8)), "sret_lt": (32, 4.0, 1.0, (2, 4, 8)), "sret_s": (42, 3.0, 2.0, (3, 6, 12))}
BLOCKS, GROUPS = (2, 5, 3), ((8, 2), (4, 1), (1, 1))


def order(n):
    step = int(0.6180339887 * n) + 1
    while math.gcd(step, n) != 1:
        step += 1
    return (torch.arange(n) * step + 3) % n


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.ones(1))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Between(nn.Module):
    def __init__(self, width, ratio):
        super().__init__()
        self.norm1, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width, int(width * ratio))
        self.coefficient1, self.coefficient2 = Scale(), Scale()

    def forward(self, x, loop):
        return x * self.coefficient1.bias + self.mlp(self.norm1(x)) * self.coefficient2.bias


class Attention(nn.Module):
    def __init__(self, width, heads, groups):
        super().__init__()
        self.heads, self.groups = heads, groups
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x, loop):
        b, n, c = x.shape
        groups = self.groups[loop]
        shuffled = order(n) if loop and groups > 1 else torch.arange(n)
        qkv = self.qkv(x[:, shuffled]).reshape(b, groups, n // groups, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, n, c)
        return self.proj(y[:, torch.argsort(shuffled)])


class Block(nn.Module):
    def __init__(self, width, heads, ratio, groups):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads, groups), Mlp(width, int(width * ratio))
        for i in range(1, 5):
            setattr(self, f"coefficient{i}", Scale())

    def forward(self, x, loop):
        x = x * self.coefficient1.bias + self.attn(self.norm1(x), loop) * self.coefficient2.bias
        return x * self.coefficient3.bias + self.mlp(self.norm2(x)) * self.coefficient4.bias


class Transformer(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        b, c, h, w = x.shape
        x = x.flatten(2).transpose(1, 2)
        for i, block in enumerate(self.blocks):
            x = block(x, int((i + 2) % 4 == 0))
        return x.transpose(1, 2).reshape(b, c, h, w)


class Embedding(nn.Module):
    def __init__(self, width):
        super().__init__()
        for i, (a, b) in enumerate(((3, width // 2), (width // 2, width), (width, width)), 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, 3, 2, 1))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))

    def forward(self, x):
        for i in range(1, 4):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)).relu()
        return x


class Pool(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.conv = nn.Conv2d(width, out, 3, 2, 1, groups=width)


class SReT(nn.Module):
    def __init__(self, name, classes, size):
        super().__init__()
        head, ratio, between, heads = FORMS[name]
        widths = [head * h for h in heads]
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[0], size // 8, size // 8))
        self.patch_embed = Embedding(widths[0])
        self.transformers, self.pools = nn.ModuleList(), nn.ModuleList()
        for s in range(3):
            blocks = []
            for _ in range(BLOCKS[s]):
                shared = Block(widths[s], heads[s], ratio, GROUPS[s])
                blocks += [shared, Between(widths[s], between), shared, Between(widths[s], between)]
            self.transformers.append(Transformer(blocks))
            if s < 2:
                self.pools.append(Pool(widths[s], widths[s + 1]))
        self.norm, self.head = nn.LayerNorm(widths[2], eps=1e-6), nn.Linear(widths[2], classes)

    def forward(self, x):
        x = self.patch_embed(x) + self.pos_embed
        for s in range(3):
            x = self.transformers[s](x)
            x = self.pools[s].conv(x) if s < 2 else x
        return self.head(self.norm(x.mean((2, 3))))
