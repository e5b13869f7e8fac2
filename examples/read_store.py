#!/usr/bin/env python3
"""Read a label store (docs/store-format.md): read_store.py STORE [IMAGE]. Needs only Python."""
import struct
import sys

MASS_BITS, NEAR_BITS = 12, 4


class Bits:
    """Numbers from a stream of bits, low bit first."""

    def __init__(self, data):
        self.value = int.from_bytes(data, "little")

    def take(self, n):
        v = self.value & ((1 << n) - 1)
        self.value >>= n
        return v

    def rank(self, rice):
        high = 0
        while not self.take(1):
            high += 1
        return high << rice | self.take(rice)


def mass(q):
    t = q / ((1 << MASS_BITS) - 1)
    return t * t * (3 - 2 * t)


class Store:
    def __init__(self, path):
        self.bytes = open(path, "rb").read()
        h = self.bytes[:512]
        if h[:8] != b"FERKDLBL" or struct.unpack_from("<I", h, 8)[0] != 2:
            raise ValueError(f"{path}: not a label store of format 2")
        (self.seed, self.images, self.regions, self.topk, self.classes, self.teacher_classes,
         flags) = struct.unpack_from("<QIIIIII", h, 16)
        self.outside, self.boxes = bool(flags & 2), bool(flags & 4)
        self.prob_bits, over = struct.unpack_from("<II", h, 104)
        self.over = over or self.classes  # labels are over so many classes: the data set's, then the teacher's others
        self.steps = (1 << self.prob_bits) - 1
        footer = self.bytes[-56:]
        if footer[:8] != b"FERKDEND" or struct.unpack_from("<Q", footer, 24)[0] != len(self.bytes):
            raise ValueError(f"{path}: unfinished or damaged")
        lengths = struct.unpack_from(f"<{self.images}I", self.bytes, len(self.bytes) - 56 - 4 * self.images)
        self.start = [512]
        for n in lengths:
            self.start.append(self.start[-1] + n)

    def image(self, i):
        """(ground truth, labels): a label is (top [(class, p), ...], inside, teacher_max); labels None: skipped."""
        block = self.bytes[self.start[i]:self.start[i + 1]]
        truth = struct.unpack_from("<H", block, 5)[0]
        if block[4] != 1:
            return truth, None
        rice = block[7] & 15, block[7] >> 4
        bits = Bits(block[8:-4])
        index_bits = (self.over - 1).bit_length()
        palette = [bits.take(index_bits) for _ in range(bits.take(16))]
        return truth, [self.label(bits, palette, rice) for _ in range(self.regions)]

    def label(self, bits, palette, rice):
        inside, largest = 1.0, None
        if self.boxes:  # top, left, height, width, flip
            self.box = [bits.take(16) for _ in range(4)] + [bits.take(1)]
        if self.outside:
            inside = mass(bits.take(MASS_BITS))
            if not bits.take(1):
                largest = mass(bits.take(MASS_BITS))
        top, last, left = [], self.steps, self.steps
        for k in range(self.topk):
            bound = min(last, left)
            if bound == 0:
                break
            if k > 0:
                q = bits.take(bound.bit_length())
            elif bits.take(1):
                q = self.steps - bits.take(self.prob_bits - NEAR_BITS)
            else:
                q = bits.take(self.prob_bits)
            if q == 0:
                break
            top.append((palette[bits.rank(rice[k > 0])], q / self.steps))
            last, left = q, left - q
        if self.topk == self.over:
            total = sum(p for _, p in top)
            top = [(c, p / total) for c, p in top]
        if largest is None:
            largest = top[0][1] if self.over > self.classes else inside * top[0][1]
        return top, inside, largest

    def dense(self, top):
        """Probabilities over all classes; what the top leaves is spread evenly."""
        rest = max(0.0, 1 - sum(p for _, p in top))
        out = [rest / (self.over - len(top)) if self.over > len(top) else 0.0] * self.over
        for c, p in top:
            out[c] = p
        return out


if __name__ == "__main__":
    s = Store(sys.argv[1])
    i = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    truth, labels = s.image(i)
    print(f"{s.images} images x {s.regions} regions, top {s.topk} of {s.over}; image {i} is of class {truth}")
    for r, (top, inside, largest) in enumerate(labels or []):
        print(f"region {r:<4} p {largest:.4f}  inside {inside:.4f} ", " ".join(f"{c}:{p:.4f}" for c, p in top))
