"""Label stores for knowledge distillation: read them, train from them, write them from any teacher.

    store = ferkd.Store("labels.ferkd")             # soft labels as numpy arrays
    for x, y in ferkd.Loader(data="photos/train", labels="labels.ferkd", size=128, batch=64, epochs=30):
        ...                                         # calibrated regions and targets, decoded by C threads
    with ferkd.Scribe("labels.ferkd", "photos/train", classes=1000, ...) as scribe:
        for crops in scribe: scribe.write(model(crops))

ferkd.torch has a torch.utils.data data set. Only numpy is needed.
"""
import ctypes as c

import numpy as np

from ._library import (DatasetOptions, Error, LabelRoom, LoaderInfo, P, SoftLabel, lib, pointer)

__all__ = ["Error", "Loader", "Scribe", "Store", "version"]


def version():
    return lib.ferkd_version().decode()


class Store:
    """A finished label store, mapped; any number of threads may read it."""

    def __init__(self, path):
        self._store = c.c_void_p()
        lib.ferkd_store_open(c.byref(self._store), str(path).encode())
        info = lib.ferkd_store_about(self._store).contents
        self.images, self.regions, self.topk = info.images, info.regions, info.topk
        self.classes, self.teacher_classes, self.label_classes = info.classes, info.teacher_classes, info.label_classes
        self.seed, self.teacher, self.bytes = info.sampler.seed, info.teacher.decode(), info.file_bytes

    def close(self):
        if self._store:
            lib.ferkd_store_close(c.byref(self._store))

    __del__ = close

    def __len__(self):
        return self.images

    def truth(self, image):
        """The ground-truth class of an image."""
        if not 0 <= image < self.images:
            raise IndexError(image)
        return lib.ferkd_store_truth(self._store, image)

    def _labels(self, image):
        if not 0 <= image < self.images:
            raise IndexError(image)
        index = np.zeros((self.regions, self.topk), np.uint16)
        prob = np.zeros((self.regions, self.topk), np.float32)
        labels = (SoftLabel * self.regions)()
        lib.ferkd_store_labels(self._store, image, LabelRoom(pointer(index, c.c_uint16), pointer(prob, c.c_float)), labels)
        return index, prob, labels

    def __getitem__(self, image):
        """The labels of an image's regions, over label_classes (the data set's first): {"index": [R, K] uint16, "prob": [R, K] float32 (0: not told), "rest",
        "inside", "max": [R] float32}. Error if the image could not be read when it was labelled."""
        index, prob, labels = self._labels(image)
        for r, label in enumerate(labels):
            prob[r, label.k:] = 0
            index[r, label.k:] = 0
        each = np.array([(x.rest, x.inside, x.teacher_max) for x in labels], np.float32).reshape(-1, 3)
        return {"index": index, "prob": prob, "rest": each[:, 0], "inside": each[:, 1], "max": each[:, 2]}

    def dense(self, image):
        """The same as distributions, [R, label_classes] float32: what the top leaves is spread evenly."""
        room = self._labels(image)  # the labels point into the two arrays
        out = np.empty((self.regions, self.label_classes), np.float32)
        for r, label in enumerate(room[2]):
            lib.ferkd_soft_label_expand(c.byref(label), self.label_classes, pointer(out[r], c.c_float))
        return out


class Loader:
    """Batches of regions and their targets, float32 [B, C, H, W] and [B, label_classes], decoded ahead by C threads that
    hold no GIL. label_classes are the data set's (classes) or, from stores with labels over all of the teacher's, these
    first and then the others: a student has as many outputs while it learns, of which only the first are used in the end.
    Keys are those of recipes ("ferkd train --help"), with underscores: data, labels, method, calibrate, size,
    batch, epochs, seed, regions_per_image, mean, std, filter, mix (with mix_scope="image"), threads, ...

    Iterating goes once over all epochs; the same seed gives the same batches. The arrays are the caller's own.
    """

    def __init__(self, **keys):
        self._loader = c.c_void_p()
        names = [k.encode() for k in keys]
        values = [("true" if v is True else "false" if v is False else str(v)).encode() for v in keys.values()]
        many = c.c_char_p * len(keys)
        lib.ferkd_loader_open(c.byref(self._loader), many(*names), many(*values), len(keys))
        info = LoaderInfo()
        lib.ferkd_loader_about(self._loader, c.byref(info))
        self.batch, self.channels, self.size = info.batch, info.channels, info.size_px
        self.classes, self.label_classes = info.classes, info.label_classes
        self.images, self.batches_per_epoch, self.batches = info.images, info.batches_per_epoch, info.batches
        self.rules, self.words = info.rules.decode(), info.words.decode()
        self._next = 0

    def close(self):
        if self._loader:
            lib.ferkd_loader_close(c.byref(self._loader))

    __del__ = close

    def __len__(self):
        return self.batches

    def seek(self, batch):
        """Go on at this batch, counted over all epochs."""
        lib.ferkd_loader_seek(self._loader, batch)
        self._next = batch

    def next_into(self, x, y):
        """Copy the next batch into two float32 arrays; False after the last."""
        inputs, targets = P(c.c_float)(), P(c.c_float)()
        lib.ferkd_loader_next(self._loader, c.byref(inputs), c.byref(targets))
        if not inputs:
            return False
        c.memmove(x.ctypes.data, inputs, x.nbytes)
        c.memmove(y.ctypes.data, targets, y.nbytes)
        self._next += 1
        return True

    def _room(self):
        return (np.empty((self.batch, self.channels, self.size, self.size), np.float32),
                np.empty((self.batch, self.label_classes), np.float32))

    def __iter__(self):
        self.seek(0)
        return self.rest()

    def rest(self):
        """The batches from here on."""
        while True:
            x, y = self._room()
            if not self.next_into(x, y):
                return
            yield x, y


class Scribe:
    """A store written by a teacher of any make. Iterating gives crops of the next images, uint8 [N * R, H, W, C] as Pillow
    cuts and resizes them; write() takes the teacher's logits on them, [N * R, classes].

    classes: columns of the logits; class_map: the column of each class of the data (default: one to one); all_classes:
    labels over all of the teacher's classes, the data's first, then its others in order. An interrupted store is gone on with; leaving the "with" after the last image seals it.
    """

    def __init__(self, path, data, *, classes=0, class_map=None, all_classes=False, teacher="elsewhere", regions=8, topk=5, prob_bits=0, seed=0,
                 size=224, filter="bilinear", scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), flip=0.5, temperature=1.0,
                 images_at_once=8, threads=0, ignore_exif=False, overwrite=False):
        self._data, self._scribe = c.c_void_p(), c.c_void_p()
        lib.ferkd_dataset_open(c.byref(self._data), str(data).encode(), c.byref(DatasetOptions(None, ignore_exif)))
        self.images = lib.ferkd_dataset_images(self._data)
        self.class_names = [lib.ferkd_dataset_class_name(self._data, i).decode()
                            for i in range(lib.ferkd_dataset_classes(self._data))]
        o = lib.ferkd_scribe_defaults()
        o.regions, o.topk, o.prob_bits, o.size_px, o.temperature, o.threads = regions, topk, prob_bits, size, temperature, threads
        o.sampler.seed, o.sampler.scale_min, o.sampler.scale_max = seed, *scale
        o.sampler.ratio_min, o.sampler.ratio_max, o.sampler.flip = *ratio, flip
        o.filter, o.teacher_classes, o.overwrite = lib.ferkd_filter_parse(filter.encode()), classes, overwrite
        o.every = all_classes
        if not o.filter:
            raise ValueError(f"filter {filter!r}: bilinear, bicubic or lanczos")
        if class_map is not None:
            if len(class_map) != len(self.class_names):
                raise ValueError(f"class_map: {len(class_map)} columns for {len(self.class_names)} classes")
            self._map = np.ascontiguousarray(class_map, np.uint32)
            o.map = pointer(self._map, c.c_uint32)
        self._name = teacher.encode()
        o.teacher = self._name
        self._columns = classes or len(self.class_names)
        self._shape = (images_at_once * regions, size, size, lib.ferkd_dataset_channels(self._data))
        self._each, self._regions, self._waiting = images_at_once, regions, 0
        lib.ferkd_scribe_open(c.byref(self._scribe), self._data, str(path).encode(), c.byref(o))
        self.complete = not self._scribe

    def close(self):
        if self._scribe:
            lib.ferkd_scribe_close(c.byref(self._scribe))
        if self._data:
            lib.ferkd_dataset_close(c.byref(self._data))

    __del__ = close

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None and self._scribe and self.complete:
            lib.ferkd_scribe_commit(self._scribe)
        self.close()

    def __iter__(self):
        while not self.complete:
            crops = np.empty(self._shape, np.uint8)
            first, got = c.c_uint32(), c.c_uint32()
            lib.ferkd_scribe_crops(self._scribe, self._each, pointer(crops, c.c_uint8), c.byref(first), c.byref(got))
            if got.value == 0:
                self.complete = True
                return
            self.first, self._waiting = first.value, got.value * self._regions
            yield crops[:self._waiting]
            if self._waiting:
                raise Error(2, "write() was not called with the logits of the crops")

    def write(self, logits):
        """The logits of the crops just given: numpy, or a torch tensor of any device."""
        if hasattr(logits, "detach"):
            logits = logits.detach().float().cpu().numpy()
        logits = np.ascontiguousarray(logits, np.float32)
        if logits.shape != (self._waiting, self._columns):
            raise ValueError(f"logits {logits.shape}, ({self._waiting}, {self._columns}) are needed")
        lib.ferkd_scribe_logits(self._scribe, pointer(logits, c.c_float))
        self._waiting = 0
