#!/usr/bin/env python3
"""tests/golden/events.bin: what TensorBoard's own writer makes of two steps of scalars (tensorboard 2.x from PyPI)."""
import io
from pathlib import Path

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

STEPS = [(1, 1000000000.5, [("loss/train", 2.25), ("accuracy/top1", 31.25)]),
         (300, 1000000060.25, [("loss/train", 1.0 / 3.0), ("accuracy/top1", 0.0)])]


def main():
    out = io.BytesIO()
    out.close = lambda: None
    writer = RecordWriter(out)
    writer.write(event_pb2.Event(wall_time=1000000000.0, file_version="brain.Event:2").SerializeToString())
    for step, wall_time, scalars in STEPS:
        values = [summary_pb2.Summary.Value(tag=t, simple_value=v) for t, v in scalars]
        writer.write(event_pb2.Event(wall_time=wall_time, step=step,
                                     summary=summary_pb2.Summary(value=values)).SerializeToString())
    writer.flush()
    (Path(__file__).parent / "events.bin").write_bytes(out.getvalue())


main()
