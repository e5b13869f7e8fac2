"""For PyTorch: a data set of whole, calibrated batches.

    data = ferkd.torch.Regions(data="photos/train", labels="labels.ferkd", size=128, batch=64, epochs=30)
    for x, y in data: loss = -(y * model(x).log_softmax(1)).sum(1).mean()

It decodes in C threads of its own: iterate it as it is, or with DataLoader(data, batch_size=None, num_workers=0).
"""
import torch

from . import Loader


class Regions(torch.utils.data.IterableDataset):
    """Keys are ferkd.Loader's; one pass is one epoch unless whole=True (all epochs in one). Batches are tensors
    [B, C, H, W] (channels_last where asked for, pinned where asked for) and [B, label_classes]: the data
    set's classes come first (see ferkd.Loader)."""

    def __init__(self, whole=False, channels_last=False, pin=False, **keys):
        super().__init__()
        self.loader = Loader(**keys)
        self.whole, self.pin = whole, pin
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.epoch = 0

    def __len__(self):
        return self.loader.batches if self.whole else self.loader.batches_per_epoch

    def _tensors(self):
        x, y = (torch.from_numpy(a) for a in self.loader._room())
        return (x.pin_memory(), y.pin_memory()) if self.pin else (x, y)

    def __iter__(self):
        if torch.utils.data.get_worker_info() is not None:
            raise RuntimeError("ferkd decodes in threads of its own; use num_workers=0")
        first = 0 if self.whole else self.epoch * len(self)
        if self.loader._next != first:
            self.loader.seek(first)
        for _ in range(len(self)):
            x, y = self._tensors()
            if not self.loader.next_into(x.numpy(), y.numpy()):
                return
            yield x.contiguous(memory_format=self.format), y
        self.epoch += 1
