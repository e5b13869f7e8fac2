#!/usr/bin/env python3
"""What an exported student sees in image files, with ONNX Runtime: predict.py student.onnx IMAGE ...

All that has to be known of the student stands in its metadata: size, resize, mean, std, classes. Needs onnxruntime,
numpy, pillow."""
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def pixels(path, card):
    """The image as ferkd evaluates it: shorter side to size / crop_pct, the middle, (value - mean) / std."""
    how = card["input"]
    size, resize = how["size"], int(how["size"] / how["crop_pct"])
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB" if how["channels"] == "RGB" else "L")
    w, h = image.size
    w, h = (resize, int(resize * h / w)) if w <= h else (int(resize * w / h), resize)
    image = image.resize((w, h), {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}[how["resize"]])
    x, y = round((w - size) / 2), round((h - size) / 2)
    a = np.asarray(image.crop((x, y, x + size, y + size)), np.float32) / (255 / how["range"])
    a = a.reshape(size, size, -1)
    return ((a - np.float32(how["mean"])) / np.float32(how["std"])).transpose(2, 0, 1)


def main():
    student = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    card = json.loads(student.get_modelmeta().custom_metadata_map["ferkd"])
    for path in sys.argv[2:]:
        logits = student.run(None, {card["input"]["name"]: pixels(path, card)[None]})[0][0]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        best = int(p.argmax())
        print(f"{path}: {card['output']['classes'][best]} {p[best]:.4f}")


main()
