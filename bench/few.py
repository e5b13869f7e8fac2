#!/usr/bin/env python3
"""few.py IMAGES.gz LABELS.gz EACH SEED FOLDER: some images of each class of an idx set (MNIST and its like) as PNG in FOLDER/CLASS,
drawn at random: a small set to carry a student over to."""
import gzip
import os
import random
import struct
import sys
import zlib


def png(rows, width):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, len(rows) // width, 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + rows[i:i + width] for i in range(0, len(rows), width))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    images, labels, each, seed, folder = sys.argv[1:]
    pixels = gzip.open(images).read()
    _, count, height, width = struct.unpack(">IIII", pixels[:16])
    classes = gzip.open(labels).read()[8:]
    rng = random.Random(int(seed))
    for c in sorted(set(classes)):
        os.makedirs(f"{folder}/{c}")
        for i in rng.sample([i for i in range(count) if classes[i] == c], int(each)):
            at = 16 + i * height * width
            with open(f"{folder}/{c}/{i:05d}.png", "wb") as f:
                f.write(png(pixels[at:at + height * width], width))


main()
