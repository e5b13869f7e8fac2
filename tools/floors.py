#!/usr/bin/env python3
"""Check the boundaries of the house: no include upwards, libraries only in their rooms.

A file may include headers of its own floor and of those below; cli/ only the public headers and
base/. oneDNN, libjpeg, libpng, protobuf and YAML stay where they belong. File names are unique.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ["base", "image", "data", "label", "net", "exchange", "kernel", "engine", "train", "report"]
# system header -> the only files (by pattern) that may include it
ROOMS = {
    r"(oneapi/dnnl/)?dnnl[^/]*\.h": r"src/engine/dnnl_(v\d|prims|inside)\.[ch]",
    r"(jpeglib|jerror|turbojpeg)\.h": r"src/image/codec_jpeg\.c",
    r"png\.h": r"src/image/codec_png(_write)?\.c",
    r"onnx\.pb-c\.h": r"src/exchange/onnx.*|tests/.*",
    r"event\.pb-c\.h": r"src/exchange/tfevents\.c",
    r"yaml\.h": r"src/base/yaml\.c",
    r"xxhash\.h": r"src/base/file\.c",
    r"mpi\.h": r"src/train/comm.*",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]')


def floor_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "src" else parts[0]


def check_include(path, line, name, faults):
    where = f"{path.relative_to(ROOT)}:{line}"
    own = floor_of(path)
    target = name.split("/")[0]
    if own == "cli" and target in FLOORS and target != "base":
        faults.append(f"{where}: cli/ may not include {name}")
    if own in FLOORS and target in FLOORS and FLOORS.index(target) > FLOORS.index(own):
        faults.append(f"{where}: {own}/ is below {target}/, which it includes")
    if own in FLOORS and target == "ferkd" and name in PUBLIC and FLOORS.index(PUBLIC[name]) > FLOORS.index(own):
        faults.append(f"{where}: {own}/ is below {name}, which it includes")
    for header, room in ROOMS.items():
        if re.fullmatch(header, name) and not re.fullmatch(room, str(path.relative_to(ROOT))):
            faults.append(f"{where}: {name} is included outside its room")


PUBLIC = {"ferkd/status.h": "base", "ferkd/image.h": "image", "ferkd/data.h": "data", "ferkd/label.h": "label",
          "ferkd/exchange.h": "exchange", "ferkd/train.h": "train",
          "ferkd/calibrate.h": "label", "ferkd/loader.h": "train", "ferkd/report.h": "report", "ferkd/ferkd.h": "report"}


def main():
    faults = []
    names = {}
    files = [p for d in ("src", "cli", "include") for p in sorted((ROOT / d).rglob("*.[ch]"))]
    for path in files:
        if not path.name.endswith("_test.c"):
            other = names.setdefault(path.name, path)
            same_pair = path.parts[-2:] == other.parts[-2:]
            public = "include" in (path.relative_to(ROOT).parts[0], other.relative_to(ROOT).parts[0])
            if other != path and not same_pair and not public:
                faults.append(f"{path.relative_to(ROOT)}: {other.relative_to(ROOT)} has the same name")
        for number, line in enumerate(path.read_text().splitlines(), 1):
            m = INCLUDE.match(line)
            if m and not path.name.endswith("_test.c"):
                check_include(path, number, m[1], faults)
    for f in faults:
        print(f)
    print(f"floors: {len(files)} files, {len(faults)} faults")
    return 1 if faults or not files else 0


sys.exit(main())
