"""pipeline: a tf.data input pipeline with its stages in the order that keeps a training fed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfgreen.checks import check_bool, check_instance, check_integer
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.typing import FilePath, Tensors

_BUFFER = 10_000  # samples that shuffling holds, at most


def pipeline(
    data: Any,
    *,
    augment: Callable[..., Tensors] | None = None,
    batch: int = 32,
    cache: bool | FilePath = True,
    shuffle: bool = True,
    seed: int | None = None,
    parse: Callable[[Any], Tensors] | None = None,
    image_size: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Return batches for ``fit``: read, parse, cache, shuffle, augment in parallel, batch, prefetch, in this order.

    What is slow and always the same (reading, decoding) comes before the cache; what is random comes after it, on all
    cores; and the next batch is made while the model trains on this one.

    Args:
        data: One of

            - arrays ``(x, y)`` or ``(x, y, sample_weight)``, or ``x`` alone, each with the samples on its first axis;
            - a ``tf.data.Dataset`` of single samples (not batches);
            - a folder with one folder of images (JPEG, PNG, BMP, GIF) per class; ``image_size`` is then needed, and
              samples are ``(image, class number)``: float32 images of 0 to 255, classes in the order of their names;
            - one TFRecord file or a list of them (``*.tfrecord``), with ``parse``.
        augment: A function of one sample, ``augment(x, y)`` as the data has them, of TensorFlow operations; its random
            numbers differ from epoch to epoch.
        batch: Samples in a batch; the last of an epoch may be smaller.
        cache: True keeps what is parsed in memory, a path in a file there; False reads it anew in each epoch. Arrays
            are in memory anyway.
        shuffle: Whether samples are shuffled, anew in each epoch, in a buffer of up to 10,000.
        seed: For the shuffling.
        parse: A function of one serialized record (a scalar string tensor) or of one sample of a dataset; what it
            returns is cached.
        image_size: Height and width to which the images of a folder are resized.

    Raises:
        TypeError, ValueError: An argument is of another type; the folder holds no folders of images; the arrays are not
            of one length; the data holds nothing.

    Example:
        >>> import numpy as np, tfgreen as tg
        >>> x, y = np.ones((10, 8, 8, 3), "float32"), np.arange(10)
        >>> def flip(image, label):
        ...     return tf.image.random_flip_left_right(image), label
        >>> batches = tg.pipeline((x, y), augment=flip, batch=4)
        >>> [len(labels) for _, labels in batches]
        [4, 4, 2]
    """
    check_integer("batch", batch, minimum=1)
    check_bool("shuffle", shuffle)
    check_integer("seed", seed, optional=True)
    check_instance("cache", cache, (bool, str, os.PathLike), "True, False or a path")
    for name, function in (("augment", augment), ("parse", parse)):
        if function is not None and not callable(function):
            raise invalid_type(name, expected="a function of one sample", received=function)
    samples, in_memory = _samples(data, image_size)
    if parse is not None:
        samples = samples.map(parse, tf.data.AUTOTUNE)
    if cache is not False and (not in_memory or parse is not None):
        samples = samples.cache() if cache is True else samples.cache(os.fspath(cache))
    if shuffle:
        count = int(samples.cardinality())
        samples = samples.shuffle(min(count, _BUFFER) if count > 0 else _BUFFER, seed=seed)
    if augment is not None:
        samples = samples.map(augment, tf.data.AUTOTUNE, deterministic=seed is not None)
    return samples.batch(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _samples(data: Any, image_size: tuple[int, int] | None) -> tuple[tf.data.Dataset, bool]:
    """Single samples, and whether they are in memory."""
    if isinstance(data, tf.data.Dataset):
        return data, False
    if isinstance(data, (str, os.PathLike)) and Path(data).is_dir():
        return _images(Path(data), image_size), False
    files = [data] if isinstance(data, (str, os.PathLike)) else data
    if isinstance(files, (list, tuple)) and files and all(isinstance(file, (str, os.PathLike)) for file in files):
        return _records([Path(file) for file in files]), False
    arrays = data if isinstance(data, tuple) else (data,)
    lengths = {len(leaf) for leaf in keras.tree.flatten(arrays) if hasattr(leaf, "shape") and len(leaf.shape)}
    if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(arrays)):
        expected = "arrays, a tf.data.Dataset, a folder of images or TFRecord files"
        raise invalid_type("data", expected=expected, received=data)
    if len(lengths) != 1 or 0 in lengths:
        raise invalid_value("data", expected="arrays of as many samples, at least one", received=sorted(lengths))
    return tf.data.Dataset.from_tensor_slices(data), True


def _records(files: Sequence[Path]) -> tf.data.Dataset:
    if missing := [str(file) for file in files if not file.is_file()]:
        raise invalid_value("data", expected="files that exist", received=missing)
    return tf.data.TFRecordDataset([str(file) for file in files], num_parallel_reads=tf.data.AUTOTUNE)


def _images(folder: Path, size: tuple[int, int] | None) -> tf.data.Dataset:
    classes = sorted(item for item in folder.iterdir() if item.is_dir())
    kinds = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}
    files = [(str(file), number) for number, item in enumerate(classes) for file in sorted(item.iterdir())
             if file.suffix.lower() in kinds]  # fmt: skip
    if not files:
        expected = f"a folder with one folder of images ({', '.join(sorted(kinds))}) per class"
        raise invalid_value("data", expected=expected, received=str(folder))
    if size is None:
        expected, fix = "a height and a width, for a folder of images", "Pass those of the model: image_size=(96, 96)."
        raise invalid_value("image_size", expected=expected, received=None, fix=fix)
    for side in size:
        check_integer("image_size", side, minimum=1)

    def read(name: Any, label: Any) -> Any:
        image = tf.io.decode_image(tf.io.read_file(name), channels=3, expand_animations=False)
        return tf.ensure_shape(tf.image.resize(image, size), (*size, 3)), label

    names, labels = zip(*files)
    listed = tf.data.Dataset.from_tensor_slices((list(names), np.array(labels)))
    return listed.map(read, tf.data.AUTOTUNE)
