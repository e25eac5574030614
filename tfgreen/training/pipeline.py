"""pipeline: a tf.data input pipeline with its stages in the order that keeps a training fed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfgreen.checks import check_bool, check_instance, check_integer
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.training.image_listing import check_image_size, class_folders, list_images
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
    """Return batches for ``fit``: read, parse, cache, shuffle, batch, augment in parallel, prefetch, in this order.

    What is slow and always the same (reading, decoding) comes before the cache; what is random comes after it, whole
    batches on all cores; and the next batch is made while the model trains on this one. Samples whose shapes differ are
    augmented one by one, before they are batched.

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
        shuffle: Whether samples are shuffled, anew in each epoch: arrays whole, all else in a buffer of up to 10,000.
        seed: For the shuffling. What ``augment`` draws repeats with ``keras.utils.set_random_seed`` only as far as the
            cores are done in the same order; numbers that depend on the sample (``tf.random.stateless_*``) do always.
        parse: A function of one serialized record (a scalar string tensor) or of one sample of a dataset; what it
            returns is cached.
        image_size: Height and width to which the images of a folder are resized.

    Raises:
        TypeError, ValueError: An argument is of another type; the arrays are not of one length; the data holds nothing.
        FileError: The folder holds no folders of images, or a file is no image.

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
    samples, arrays = _samples(data, image_size)
    if parse is None and isinstance(samples, tf.data.TFRecordDataset):
        expected = "a function of one serialized record, for TFRecord files"
        fix = "Such as parse=lambda record: tf.io.parse_single_example(record, features)."
        raise invalid_value("parse", expected=expected, received=None, fix=fix)
    if parse is not None:
        samples = samples.map(parse, tf.data.AUTOTUNE)
    is_read = arrays is None or parse is not None
    if cache is not False and is_read:
        samples = samples.cache() if cache is True else samples.cache(os.fspath(cache))
    count = int(samples.cardinality())
    # What arrays hold is picked by its position, a batch at once.
    picked = samples if is_read else tf.data.Dataset.range(count)
    if shuffle:
        picked = picked.shuffle(min(count, _BUFFER) if is_read and count > 0 else max(count, _BUFFER), seed=seed)
    options = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": seed is not None or not shuffle}
    whole = augment is None or _of_one_shape(samples)
    if augment is not None:
        _check_traces(augment, samples)
    if augment is not None and not whole:
        picked = picked.map(augment, **options)
    batches = picked.batch(batch, num_parallel_calls=tf.data.AUTOTUNE)
    if not is_read:
        batches = batches.map(lambda rows: keras.tree.map_structure(lambda array: tf.gather(array, rows), arrays))
    if augment is not None and whole:
        batches = batches.map(_of_batches(augment, samples), **options)
    return batches.prefetch(tf.data.AUTOTUNE)


def _check_traces(augment: Callable[..., Tensors], samples: tf.data.Dataset) -> None:
    """Raise for a function that is none of TensorFlow operations."""
    try:
        samples.map(augment)
    except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
        received = f"one that fails with {type(error).__name__}: {str(error).strip().splitlines()[-1]}"
        fix = "Use tf.image and tf.random, or wrap NumPy with tf.numpy_function."
        raise invalid_value(
            "augment", expected="a function of one sample, of TensorFlow operations", received=received, fix=fix
        ) from error


def _of_one_shape(samples: tf.data.Dataset) -> bool:
    specs = keras.tree.flatten(samples.element_spec)
    return all(isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined() for spec in specs)


def _of_batches(augment: Callable[..., Tensors], samples: tf.data.Dataset) -> Callable[..., Tensors]:
    """The function of a batch that augments each of its samples.

    A loop in the graph: a stage of tf.data that takes samples one by one costs more than most augmentations.
    """
    made = samples.map(augment).element_spec

    def augment_batch(*batch: Any) -> Tensors:
        if len(batch) == 1:
            return tf.map_fn(augment, batch[0], fn_output_signature=made)
        return tf.map_fn(lambda sample: augment(*sample), batch, fn_output_signature=made)

    return augment_batch


def _samples(data: Any, image_size: tuple[int, int] | None) -> tuple[tf.data.Dataset, Tensors | None]:
    """Single samples, and the arrays that they are rows of, where they are in memory."""
    if isinstance(data, tf.data.Dataset):
        return data, None
    if isinstance(data, (str, os.PathLike)) and Path(data).is_dir():
        classes = class_folders(Path(data))
        if image_size is None:
            expected = "a height and a width, for a folder of images"
            fix = "Pass those of the model: image_size=(96, 96)."
            raise invalid_value("image_size", expected=expected, received=None, fix=fix)
        check_image_size(image_size)
        return list_images(Path(data), classes, image_size)[0].samples(), None
    files = [data] if isinstance(data, (str, os.PathLike)) else data
    if isinstance(files, (list, tuple)) and files and all(isinstance(file, (str, os.PathLike)) for file in files):
        return _records([Path(file) for file in files]), None
    arrays = data if isinstance(data, tuple) else (data,)
    lengths = {len(leaf) for leaf in keras.tree.flatten(arrays) if hasattr(leaf, "shape") and len(leaf.shape)}
    if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(arrays)):
        expected = "arrays, a tf.data.Dataset, a folder of images or TFRecord files"
        raise invalid_type("data", expected=expected, received=data)
    if len(lengths) != 1 or 0 in lengths:
        raise invalid_value("data", expected="arrays of as many samples, at least one", received=sorted(lengths))
    with tf.device("cpu"):  # where the stages of tf.data run
        tensors = keras.tree.map_structure(tf.convert_to_tensor, data)
    return tf.data.Dataset.from_tensor_slices(tensors), tensors


def _records(files: Sequence[Path]) -> tf.data.Dataset:
    if missing := [str(file) for file in files if not file.is_file()]:
        raise invalid_value("data", expected="files that exist", received=missing)
    return tf.data.TFRecordDataset([str(file) for file in files], num_parallel_reads=tf.data.AUTOTUNE)
