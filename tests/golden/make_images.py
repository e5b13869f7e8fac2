#!/usr/bin/env python3
"""Golden images: small files of every kind, and what Pillow (< 12.1) makes of them.

Writes tests/data/images/*, tests/golden/decode.txt and tests/golden/resize.txt. Needs pillow and
numpy; "make golden" runs it, and it must leave no difference.
"""
import io, struct, zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, __version__

HERE = Path(__file__).parent
DATA = HERE.parent / "data" / "images"
DATA.mkdir(parents=True, exist_ok=True)
assert int(__version__.split(".")[0]) == 12 and int(__version__.split(".")[1]) < 2, __version__
rng = np.random.default_rng(7)


def picture(w, h):
    """Smooth waves, hard edges and some noise."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    c = [127 + 90 * np.sin(x / 9 + i) + 60 * np.cos(y / 7 - i) for i in range(3)]
    a = np.stack(c, -1)
    a[(x.astype(int) // 8 + y.astype(int) // 8) % 5 == 0] = (250, 10, 30)
    a += rng.normal(0, 12, a.shape)
    return np.clip(a, 0, 255).astype(np.uint8)


def png16(path, samples, color):
    """A 16-bit PNG: samples [h][w][c] of uint16, color type 0, 2, 4 or 6."""
    h, w = samples.shape[:2]
    rows = b"".join(b"\0" + samples[y].astype(">u2").tobytes() for y in range(h))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, color, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def exif(orientation):
    e = Image.Exif()
    e[0x0112] = orientation
    return e


def make_files():
    a = picture(61, 47)
    im = Image.fromarray(a)
    grey = im.convert("L")
    im.save(DATA / "rgb.png")
    grey.save(DATA / "grey8.png")
    im.convert("1").save(DATA / "bit1.png")
    for bits in (2, 4):
        p = grey.point(lambda v: v >> (8 - bits)).convert("P")
        Image.fromarray(np.asarray(grey) >> (8 - bits)).save(DATA / f"tmp.png", bits=bits)
        p = Image.fromarray((np.asarray(grey) >> (8 - bits)).astype(np.uint8), "P")
        p.putpalette([v for i in range(1 << bits) for v in (i * 7 % 256, 255 - i * 9 % 256, i * 31 % 256)])
        p.save(DATA / f"palette{bits}.png", bits=bits)
    (DATA / "tmp.png").unlink()
    pal = im.quantize(40)
    pal.save(DATA / "palette8.png")
    pal.save(DATA / "palette8_trns.png", transparency=3)
    im.save(DATA / "rgb_trns.png", transparency=(250, 10, 30))
    rgba = np.dstack([a, (a[..., 0] > 120) * 255]).astype(np.uint8)
    Image.fromarray(rgba, "RGBA").save(DATA / "rgba.png")
    Image.fromarray(np.dstack([a[..., 0], a[..., 1]]), "LA").save(DATA / "la.png")
    wide = rng.integers(0, 600, (20, 23, 4)).astype(np.uint16)
    wide[::2] *= 100
    png16(DATA / "grey16.png", wide[..., :1], 0)
    png16(DATA / "rgb16.png", wide[..., :3], 2)
    png16(DATA / "la16.png", wide[..., :2], 4)
    png16(DATA / "rgba16.png", wide, 6)
    im.save(DATA / "rgb444.jpg", quality=92, subsampling=0)
    im.save(DATA / "rgb420.jpg", quality=85, subsampling=2)
    im.save(DATA / "rgb422.jpg", quality=75, subsampling=1)
    im.save(DATA / "progressive.jpg", quality=80, progressive=True)
    grey.save(DATA / "grey.jpg", quality=85)
    im.convert("CMYK").save(DATA / "cmyk.jpg", quality=90)
    big = Image.fromarray(picture(241, 187))
    big.save(DATA / "large420.jpg", quality=88, subsampling=2)
    for o in range(1, 9):
        im.save(DATA / f"exif{o}.jpg", quality=80, exif=exif(o))
    im.save(DATA / "exif6.png", exif=exif(6))
    # interlaced: Pillow cannot write it, so Adam7 by hand, no filters
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for x0, y0, dx, dy in passes:
        part = a[y0::dy, x0::dx]
        if part.shape[1]:
            rows += b"".join(b"\0" + r.tobytes() for r in part)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    (DATA / "interlaced.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 61, 47, 8, 2, 0, 0, 1))
        + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def crc(im):
    return f"{zlib.crc32(np.asarray(im).tobytes()):08x}"


def main():
    make_files()
    with open(HERE / "decode.txt", "w") as f:
        f.write("# file width height crc32, then the same turned upright by EXIF\n")
        for p in sorted(DATA.iterdir()):
            im = Image.open(p)
            rgb = im.convert("RGB")
            up = ImageOps.exif_transpose(im).convert("RGB")
            f.write(f"{p.name} {rgb.width} {rgb.height} {crc(rgb)} {up.width} {up.height} {crc(up)}\n")
    filters = [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC), ("lanczos", Image.LANCZOS)]
    with open(HERE / "resize.txt", "w") as f:
        f.write("# file top left height width dst_width dst_height filter flip crc32\n")
        for name in ("rgb.png", "large420.jpg", "grey8.png"):
            im = Image.open(DATA / name).convert("RGB")
            for _ in range(240):
                w = int(rng.integers(1, im.width + 1))
                h = int(rng.integers(1, im.height + 1))
                left = int(rng.integers(0, im.width - w + 1))
                top = int(rng.integers(0, im.height - h + 1))
                dw, dh = (int(v) for v in rng.integers(1, 130, 2))
                if rng.random() < 0.1:
                    dw = w
                if rng.random() < 0.1:
                    dh = h
                word, how = filters[int(rng.integers(3))]
                flip = int(rng.integers(2))
                out = im.crop((left, top, left + w, top + h)).resize((dw, dh), how)
                if flip:
                    out = out.transpose(Image.FLIP_LEFT_RIGHT)
                f.write(f"{name} {top} {left} {h} {w} {dw} {dh} {word} {flip} {crc(out)}\n")


main()
