#!/usr/bin/env python3
"""Read a label store (docs/store-format.md): read_store.py STORE [IMAGE]. Needs only Python."""
import struct
import sys


class Store:
    def __init__(self, path):
        self.bytes = open(path, "rb").read()
        h = self.bytes[:512]
        if h[:8] != b"FERKDLBL" or struct.unpack_from("<I", h, 8)[0] != 1:
            raise ValueError(f"{path}: not a label store of format 1")
        (self.seed, self.images, self.regions, self.topk, self.classes, self.teacher_classes,
         flags) = struct.unpack_from("<QIIIIII", h, 16)
        self.outside = bool(flags & 2)
        self.block_bytes = struct.unpack_from("<I", h, 104)[0]
        self.index_bits = max(1, (self.classes - 1).bit_length())
        footer = self.bytes[-48:]
        if footer[:8] != b"FERKDEND" or struct.unpack_from("<Q", footer, 24)[0] != len(self.bytes):
            raise ValueError(f"{path}: unfinished or damaged")

    def image(self, i):
        """(ground truth, labels): a label is (top [(class, p), ...], inside, teacher_max)."""
        block = self.bytes[512 + i * self.block_bytes:][:self.block_bytes]
        truth = struct.unpack_from("<H", block, 1)[0]
        if block[0] != 1:
            return truth, None
        bits = int.from_bytes(block[3:-4], "little")

        def take(n):
            nonlocal bits
            v = bits & ((1 << n) - 1)
            bits >>= n
            return v

        labels = []
        for _ in range(self.regions):
            top = [(take(self.index_bits), take(12) / 4095) for _ in range(self.topk)]
            inside, largest = (take(16) / 65535, take(16) / 65535) if self.outside else (1.0, top[0][1])
            labels.append((top, inside, largest))
        return truth, labels

    def dense(self, top):
        """Probabilities over all classes; what the top leaves is spread evenly."""
        total = sum(p for _, p in top)
        if total > 1 or len(top) == self.classes:
            top, total = [(c, p / total) for c, p in top], 1.0
        spread = (1 - total) / (self.classes - len(top)) if self.classes > len(top) else 0.0
        out = [spread] * self.classes
        for c, p in top:
            out[c] = p
        return out


if __name__ == "__main__":
    s = Store(sys.argv[1])
    i = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    truth, labels = s.image(i)
    print(f"{s.images} images x {s.regions} regions, top {s.topk} of {s.classes}; image {i} is of class {truth}")
    for r, (top, inside, largest) in enumerate(labels or []):
        print(f"region {r:<4} p {largest:.4f}  inside {inside:.4f} ", " ".join(f"{c}:{p:.4f}" for c, p in top))
