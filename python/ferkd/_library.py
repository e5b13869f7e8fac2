"""libferkd through ctypes: structures, functions, errors. The headers in include/ferkd say what each does."""
import ctypes as c
import ctypes.util
import os
from pathlib import Path


class Error(RuntimeError):
    """What libferkd says: what, where, remedy."""

    def __init__(self, status, sentence):
        super().__init__(sentence)
        self.status = status


class Sampler(c.Structure):
    _fields_ = [("seed", c.c_uint64), ("scale_min", c.c_double), ("scale_max", c.c_double), ("ratio_min", c.c_double),
                ("ratio_max", c.c_double), ("flip", c.c_double)]


class StoreInfo(c.Structure):
    _fields_ = [("version", c.c_uint32), ("images", c.c_uint32), ("regions", c.c_uint32), ("topk", c.c_uint32),
                ("classes", c.c_uint32), ("teacher_classes", c.c_uint32), ("label_classes", c.c_uint32), ("sampler", Sampler),
                ("teacher_px", c.c_uint32), ("filter", c.c_int), ("temperature", c.c_double), ("ignore_exif", c.c_bool), ("has_boxes", c.c_bool), ("dataset_fingerprint", c.c_uint8 * 16), ("teacher_fingerprint", c.c_uint8 * 16),
                ("prob_bits", c.c_uint32), ("file_bytes", c.c_uint64), ("labelled", c.c_uint32), ("skipped", c.c_uint32),
                ("part", c.c_uint32), ("parts", c.c_uint32), ("first", c.c_uint32), ("here", c.c_uint32),
                ("teacher", c.c_char_p), ("dataset", c.c_char_p)]


class SoftLabel(c.Structure):
    _fields_ = [("k", c.c_uint32), ("index", c.POINTER(c.c_uint16)), ("prob", c.POINTER(c.c_float)), ("rest", c.c_float),
                ("inside", c.c_float), ("teacher_max", c.c_float), ("area", c.c_float),
                ("top", c.c_uint32), ("left", c.c_uint32), ("height", c.c_uint32), ("width", c.c_uint32), ("flip", c.c_bool)]


class LabelRoom(c.Structure):
    _fields_ = [("index", c.POINTER(c.c_uint16)), ("prob", c.POINTER(c.c_float))]


class LoaderInfo(c.Structure):
    _fields_ = [("batch", c.c_uint32), ("channels", c.c_uint32), ("size_px", c.c_uint32), ("images", c.c_uint32),
                ("classes", c.c_uint32), ("label_classes", c.c_uint32), ("batches_per_epoch", c.c_uint64), ("batches", c.c_uint64), ("rules", c.c_char_p),
                ("words", c.c_char_p)]


class DatasetOptions(c.Structure):
    _fields_ = [("class_names", c.c_char_p), ("ignore_exif", c.c_bool)]


class ScribeOptions(c.Structure):
    _fields_ = [("regions", c.c_uint32), ("topk", c.c_uint32), ("prob_bits", c.c_uint32), ("sampler", Sampler),
                ("size_px", c.c_uint32), ("filter", c.c_int), ("teacher_classes", c.c_uint32),
                ("map", c.POINTER(c.c_uint32)), ("every", c.c_bool), ("temperature", c.c_double), ("teacher", c.c_char_p),
                ("threads", c.c_uint32), ("overwrite", c.c_bool)]


def _find():
    here = Path(__file__).resolve().parent
    names = [os.environ.get("FERKD_LIBRARY"), here / "libferkd.so", here.parent.parent / "build" / "libferkd.so",
             ctypes.util.find_library("ferkd")]
    for name in names:
        if name and (not isinstance(name, Path) or name.exists()):
            return c.CDLL(str(name))
    raise ImportError("libferkd.so was not found: \"make install\" it, or say where it is in FERKD_LIBRARY")


lib = _find()
P = c.POINTER
_OK = 0

# name: arguments, result ("status" is checked; others are given back)
_FUNCTIONS = {
    "ferkd_last_error": ([], c.c_char_p),
    "ferkd_version": ([], c.c_char_p),
    "ferkd_store_open": ([P(c.c_void_p), c.c_char_p], "status"),
    "ferkd_store_close": ([P(c.c_void_p)], None),
    "ferkd_store_about": ([c.c_void_p], P(StoreInfo)),
    "ferkd_store_has": ([c.c_void_p, c.c_uint32, P(c.c_bool)], "status"),
    "ferkd_store_truth": ([c.c_void_p, c.c_uint32], c.c_uint32),
    "ferkd_store_labels": ([c.c_void_p, c.c_uint32, LabelRoom, P(SoftLabel)], "status"),
    "ferkd_soft_label_expand": ([P(SoftLabel), c.c_uint32, P(c.c_float)], None),
    "ferkd_dataset_open": ([P(c.c_void_p), c.c_char_p, P(DatasetOptions)], "status"),
    "ferkd_dataset_close": ([P(c.c_void_p)], None),
    "ferkd_dataset_images": ([c.c_void_p], c.c_uint32),
    "ferkd_dataset_classes": ([c.c_void_p], c.c_uint32),
    "ferkd_dataset_channels": ([c.c_void_p], c.c_uint32),
    "ferkd_dataset_class_name": ([c.c_void_p, c.c_uint32], c.c_char_p),
    "ferkd_loader_open": ([P(c.c_void_p), P(c.c_char_p), P(c.c_char_p), c.c_size_t], "status"),
    "ferkd_loader_close": ([P(c.c_void_p)], None),
    "ferkd_loader_about": ([c.c_void_p, P(LoaderInfo)], None),
    "ferkd_loader_seek": ([c.c_void_p, c.c_uint64], "status"),
    "ferkd_loader_next": ([c.c_void_p, P(P(c.c_float)), P(P(c.c_float))], "status"),
    "ferkd_scribe_defaults": ([], ScribeOptions),
    "ferkd_filter_parse": ([c.c_char_p], c.c_int),
    "ferkd_scribe_open": ([P(c.c_void_p), c.c_void_p, c.c_char_p, P(ScribeOptions)], "status"),
    "ferkd_scribe_close": ([P(c.c_void_p)], None),
    "ferkd_scribe_crops": ([c.c_void_p, c.c_uint32, P(c.c_uint8), P(c.c_uint32), P(c.c_uint32)], "status"),
    "ferkd_scribe_logits": ([c.c_void_p, P(c.c_float)], "status"),
    "ferkd_scribe_commit": ([c.c_void_p], "status"),
}


def _check(status, function, arguments):
    if status != _OK:
        raise Error(status, lib.ferkd_last_error().decode())
    return status


for _name, (_arguments, _result) in _FUNCTIONS.items():
    _function = getattr(lib, _name)
    _function.argtypes = _arguments
    if _result == "status":
        _function.restype = c.c_int
        _function.errcheck = _check
    else:
        _function.restype = _result


def pointer(array, kind):
    """The address of a numpy array's first element."""
    return array.ctypes.data_as(P(kind))
