"""test_ferkd.py FERKD: the Python module against the program and against Pillow (numpy, Pillow; torch where it is there)."""
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "python"))
sys.path.insert(0, str(ROOT / "examples"))
import ferkd  # noqa: E402
from read_store import Store as PlainStore  # noqa: E402

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def make_data(folder):
    images = ROOT / "tests" / "data" / "images"
    for name, pattern in (("ant", "rgb*.jpg"), ("bee", "exif*.jpg"), ("cat", "rgb*.png")):
        (folder / name).mkdir(parents=True)
        for f in sorted(images.glob(pattern)):
            shutil.copy(f, folder / name)
    return folder


def logits_of(crops, columns):
    """A teacher: the mean colours, spread over the columns by a fixed matrix."""
    colours = crops.reshape(len(crops), -1, 3).mean(1) / 255
    return (colours @ np.random.default_rng(1).normal(size=(3, columns)) * 5).astype(np.float32)


def write_store(path, data, stop_after=None, **keys):
    with ferkd.Scribe(path, data, classes=7, class_map=[5, 0, 3], teacher="colours", regions=4, topk=3, seed=9, size=24,
                      filter="bicubic", images_at_once=5, **keys) as scribe:
        seen = []
        for n, crops in enumerate(scribe):
            if n == stop_after:
                return None
            seen.append(crops.copy())
            scribe.write(logits_of(crops, 7))
    return np.concatenate(seen) if seen else None


def a_store_of_any_teacher(tmp, data):
    crops = write_store(tmp / "a.ferkd", data)
    store, plain = ferkd.Store(tmp / "a.ferkd"), PlainStore(tmp / "a.ferkd")
    assert (store.classes, store.teacher_classes, store.regions) == (3, 7, 4)
    for i in range(len(store)):
        z = logits_of(crops[4 * i:4 * i + 4], 7).astype(np.float64)
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        mine = p[:, [5, 0, 3]]
        labels, dense = store[i], store.dense(i)
        assert np.abs(labels["inside"] - mine.sum(1)).max() < 1e-3
        assert np.abs(labels["max"] - p.max(1)).max() < 2e-3
        assert np.abs(dense - mine / mine.sum(1, keepdims=True)).max() < 1e-3
        assert np.abs(dense.sum(1) - 1).max() < 1e-5
        truth, others = plain.image(i)
        assert truth == store.truth(i)
        for r, (top, inside, _) in enumerate(others):
            assert np.abs(plain.dense(top) - dense[r]).max() < 1e-5 and abs(inside - labels["inside"][r]) < 1e-5
    # Over all of its classes: the data's first, then the others in order.
    write_store(tmp / "all.ferkd", data, all_classes=True)
    wide, plain = ferkd.Store(tmp / "all.ferkd"), PlainStore(tmp / "all.ferkd")
    assert (wide.classes, wide.label_classes) == (3, 7)
    for i in range(len(wide)):
        z = logits_of(crops[4 * i:4 * i + 4], 7).astype(np.float64)
        p = np.exp(z - z.max(1, keepdims=True))
        p = (p / p.sum(1, keepdims=True))[:, [5, 0, 3, 1, 2, 4, 6]]
        dense = wide.dense(i)
        top = np.sort(p, 1)[:, ::-1][:, :3]
        assert np.abs(np.sort(dense, 1)[:, ::-1][:, :3] - top).max() < 5e-3
        told = wide[i]["index"]
        assert np.abs(np.take_along_axis(p, told.astype(int), 1) - top).max() < 5e-3
        assert np.abs(wide[i]["max"] - top[:, 0]).max() < 5e-3
        for r, (top, _, most) in enumerate(plain.image(i)[1]):
            assert np.abs(plain.dense(top) - dense[r]).max() < 1e-5 and abs(most - wide[i]["max"][r]) < 1e-5
    # Interrupted and gone on with: the same bytes.
    assert write_store(tmp / "b.ferkd", data, stop_after=2) is None
    write_store(tmp / "b.ferkd", data)
    assert (tmp / "a.ferkd").read_bytes() == (tmp / "b.ferkd").read_bytes()


def crops_are_pillows(tmp, data):
    from PIL import Image, ImageOps
    with ferkd.Scribe(tmp / "c.ferkd", data, regions=2, size=20, filter="bilinear", scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0,
                      images_at_once=100) as scribe:
        crops = next(iter(scribe))
        first = ImageOps.exif_transpose(Image.open(sorted((Path(data) / "ant").iterdir())[0])).convert("RGB")
        side = min(first.size)
        if first.size == (side, side):
            want = first.resize((20, 20), Image.BILINEAR)
        else:  # the central square: ten tries of the whole area cannot fit
            x, y = (first.width - side) // 2, (first.height - side) // 2
            want = first.crop((x, y, x + side, y + side)).resize((20, 20), Image.BILINEAR)
        assert np.array_equal(crops[0], np.asarray(want))
        scribe.write(np.zeros((len(crops), 3), np.float32))


def batches_are_the_programs(tmp, data, program):
    keys = dict(data=data, labels=tmp / "a.ferkd", method="ferkd", calibrate="max < 20%: discard; wrong: smooth 0.1",
                size=24, batch=6, epochs=3, seed=4, regions_per_image=2)
    loader = ferkd.Loader(threads=3, **keys)
    assert loader.rules.startswith("max < 20%") and len(loader) == 3 * loader.batches_per_epoch
    batches = [(x.copy(), y.copy()) for x, y in loader]
    again = [(x, y) for x, y in ferkd.Loader(threads=1, **keys)]
    assert len(batches) == len(loader) == len(again)
    for (x, y), (u, v) in zip(batches, again):
        assert np.array_equal(x, u) and np.array_equal(y, v)
        assert np.abs(y.sum(1) - 1).max() < 1e-5
        pixels = x * STD.reshape(3, 1, 1) + MEAN.reshape(3, 1, 1)
        assert pixels.min() > -1e-5 and pixels.max() < 1 + 1e-5
        assert np.abs(pixels * 255 - np.rint(pixels * 255)).max() < 1e-2  # they are bytes
    loader.seek(2)
    x, y = next(loader.rest())
    assert np.array_equal(x, batches[2][0]) and np.array_equal(y, batches[2][1])
    # Labels over all of the teacher's classes are as wide.
    wide = ferkd.Loader(**dict(keys, labels=tmp / "all.ferkd", calibrate="else: keep"))
    assert (wide.classes, wide.label_classes) == (3, 7)
    x, y = next(iter(wide))
    assert y.shape == (6, 7) and np.abs(y.sum(1) - 1).max() < 1e-5
    # What the program trains on has the same first loss as these targets give a network that knows nothing.
    subprocess.run([program, "calibrate", str(tmp / "a.ferkd"), keys["calibrate"]], check=True, capture_output=True)
    for wrong in (dict(keys, bogus=1), dict(keys, labels=""), dict(keys, batch=7)):
        try:
            ferkd.Loader(**wrong)
            raise AssertionError(wrong)
        except ferkd.Error as e:
            assert str(e)


def fkd_archives_come_in(tmp, data, program):
    """Archives made by torch.save in FKD's layout, of every label type, imported: the dense labels and the boxes."""
    try:
        import torch
    except ImportError:
        print("torch is not here: FKD's archives were not tested")
        return
    from PIL import Image
    rng = np.random.default_rng(3)
    R, C = 6, 3
    files = sorted(Path(data).rglob("*.*"))
    for kind, k in (("marginal_smoothing_k2", 2), ("marginal_renorm", 2), ("smoothing", 1), ("hard", 1), ("ori", 3)):
        for half, tensors in ((False, False), (True, False), (False, True)):
            folder, want, boxes = tmp / f"fkd-{kind}-{half}-{tensors}", [], []
            for f in files:
                width, height = Image.open(f).size
                h, w = rng.integers(1, height + 1, R), rng.integers(1, width + 1, R)
                top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
                coords = np.stack([top / height, left / width, h / height, w / width], 1).astype(np.float32)
                p = rng.dirichlet(np.ones(C), R).astype(np.float32)
                order = np.argsort(-p, 1)[:, :k]
                best = np.take_along_axis(p, order, 1)
                label = {"ori": p, "hard": order[:, 0], "smoothing": np.stack([order[:, 0].astype(np.float32), best[:, 0]], 1)}.get(
                    kind, np.stack([order.astype(np.float32), best], 1))
                flip = rng.random(R) < 0.5
                if half and label.dtype == np.float32:
                    coords, label = coords.astype(np.float16), label.astype(np.float16)
                    best = best.astype(np.float16).astype(np.float32)
                dense = np.zeros((R, C))
                if kind == "ori":
                    dense = label.astype(np.float64)
                elif kind == "hard":
                    dense[np.arange(R), order[:, 0]] = 1
                else:
                    rest = 0 if kind == "marginal_renorm" else (1 - best.sum(1, keepdims=True)) / (C - k)
                    dense += rest
                    np.put_along_axis(dense, order, best / (best.sum(1, keepdims=True) if kind == "marginal_renorm" else 1), 1)
                want.append(dense)
                boxes.append(np.stack([top, left, h, w, flip], 1))
                item = [coords, flip, label]
                path = folder / "data" / f.parent.name / (f.name.split(".")[0] + ".tar")
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.save([torch.from_numpy(np.ascontiguousarray(x)) for x in item] if tensors else item, path)
            store = tmp / f"{folder.name}.ferkd"
            subprocess.run([program, "store", "import", str(folder), "--data", str(data), "--type", kind, "-o", str(store)],
                           check=True, capture_output=True)
            got, plain = ferkd.Store(store), PlainStore(store)
            for i in range(len(got)):
                assert np.abs(got.dense(i) - want[i]).max() < (2e-3 if half and kind == "ori" else 1e-4), (kind, half, i)
                index, prob, labels = got._labels(i)
                mine = np.array([(x.top, x.left, x.height, x.width, x.flip) for x in labels])
                assert np.array_equal(mine, boxes[i]), (kind, half, i)
            assert plain.boxes
    # And out: what FKD's loader makes of the archives is what the store says.
    subprocess.run([program, "store", "export", str(tmp / "a.ferkd"), "-o", str(tmp / "out")], check=True, capture_output=True)
    mine = ferkd.Store(tmp / "a.ferkd")
    for i, f in enumerate(sorted(Path(data).rglob("*.*"), key=lambda f: (f.parent.name, f.name))):
        coords, flip, label = torch.load(tmp / "out" / "data" / f.parent.name / (f.name.split(".")[0] + ".tar"))
        if len(list(f.parent.glob(f.name.split(".")[0] + ".*"))) > 1:
            continue  # names that differ behind their first dot share an archive
        assert coords.shape == (4, 4) and flip.dtype == torch.bool and label.shape == (4, 2, 3)
        dense = ((1 - label[:, 1].sum(1, keepdim=True)) / (3 - 3 + 1e-9)).clamp(0, 0).expand(4, 3).clone()
        dense.scatter_(1, label[:, 0].long(), label[:, 1])
        assert np.abs(dense.numpy() - mine.dense(i)).max() < 1e-6
    subprocess.run([program, "train", str(data), "--labels", str(store), "--ignore-exif", "--model", "small28", "--size", "28",
                    "--batch", "6", "--epochs", "1", "--tune", "off", "-o", str(tmp / "fkd-run")], check=True, capture_output=True)


def torch_trains(tmp, data):
    try:
        import torch
    except ImportError:
        print("torch is not here: its data set was not tested")
        return
    import ferkd.torch
    keys = dict(data=data, labels=tmp / "a.ferkd", size=24, batch=6, epochs=2, seed=4)
    regions = ferkd.torch.Regions(channels_last=True, **keys)
    want = list(ferkd.Loader(**keys))
    got = [b for _ in range(2) for b in torch.utils.data.DataLoader(regions, batch_size=None)]
    assert len(got) == len(want)
    for (x, y), (u, v) in zip(got, want):
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(x, torch.from_numpy(u)) and torch.equal(y, torch.from_numpy(v))


def main():
    program = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        data = make_data(tmp / "data")
        a_store_of_any_teacher(tmp, data)
        crops_are_pillows(tmp, data)
        batches_are_the_programs(tmp, data, program)
        fkd_archives_come_in(tmp, data, program)
        torch_trains(tmp, data)
    print("the Python module: stores, crops, batches as they should be")


main()
