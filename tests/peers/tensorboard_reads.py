#!/usr/bin/env python3
"""tensorboard_reads.py FERKD: a run's events, read back by TensorBoard, are its metrics.csv."""
import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {"loss/train": "train_loss", "loss/val": "val_loss", "accuracy/top1": "val_top1", "accuracy/top5": "val_top5",
        "optimizer/lr": "lr", "regions/important": "important", "regions/hard": "hard", "regions/dropped": "dropped"}


def check(run, epochs):
    rows = list(csv.DictReader(open(run / "metrics.csv")))
    assert len(rows) == epochs, rows
    events = EventAccumulator(str(run))
    events.Reload()
    assert set(TAGS) <= set(events.Tags()["scalars"]), events.Tags()
    for tag, column in TAGS.items():
        scalars = events.Scalars(tag)
        assert [s.step for s in scalars] == [int(r["epoch"]) for r in rows], tag
        for s, r in zip(scalars, rows):
            assert abs(s.value - float(r[column])) <= 1e-5 * max(1.0, abs(s.value)), (tag, s, r[column])


def main():
    ferkd = str(Path(sys.argv[1]).resolve())
    images = Path(__file__).resolve().parent.parent / "data" / "images"
    with tempfile.TemporaryDirectory() as tmp:
        data = str(Path(tmp) / "data")
        for name, pattern in (("ant", "rgb*.jpg"), ("bee", "exif*.jpg")):
            (Path(data) / name).mkdir(parents=True)
            for f in sorted(images.glob(pattern)):
                shutil.copy(f, Path(data) / name)
        run = Path(tmp) / "run"
        command = [ferkd, "train", data, "--val", data, "--method", "ce", "--model", "small28", "--size", "28",
                   "--batch", "8", "--tune", "off", "-o", str(run)]
        subprocess.run(command + ["--epochs", "3"], check=True, capture_output=True)
        check(run, 3)
        # Resumed: the events of the epochs before are there, once.
        recipe = (run / "recipe.yaml").read_text().replace("epochs: 3", "epochs: 5")
        (run / "recipe.yaml").write_text(recipe)
        subprocess.run([ferkd, "train", "--resume", str(run)], check=True, capture_output=True)
        check(run, 5)
    print("TensorBoard reads what metrics.csv says: 8 scalars, 5 epochs, one resumption")


main()
