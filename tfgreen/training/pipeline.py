"""pipeline: a tf.data input pipeline with its stages in the order that keeps a training fed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfgreen.checks import check_bool, check_instance, check_integer
from tfgreen.errors import FileError, invalid_type, invalid_value
from tfgreen.training.image_listing import check_image_size, class_folders, list_images
from tfgreen.training.sample_cache import content_key, kept_in, of_arrays, of_files
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
        cache: True keeps what is parsed in memory; a path keeps it in a folder there, which is filled when the pipeline
            is made, and read again by later programs as long as source and ``parse`` are the same (any number of
            pipelines may share it; delete the folder to free the disk); False reads it anew in each epoch. Arrays that
            are not parsed are in memory anyway.
        shuffle: Whether samples are shuffled, anew in each epoch: arrays whole, all else in a buffer of up to 10,000.
        seed: For the shuffling. What ``augment`` draws repeats with ``keras.utils.set_random_seed`` only as far as the
            cores are done in the same order; numbers that depend on the sample (``tf.random.stateless_*``) do always.
        parse: A function of one serialized record (a scalar string tensor) or of one sample of a dataset; what it
            returns is cached.
        image_size: Height and width to which the images of a folder are resized.

    Raises:
        TypeError, ValueError: An argument is of another type; the arrays are not of one length; the data holds nothing.
        FileError: The folder holds no folders of images, a file is no image or no TFRecord file, or the folder of the
            cache cannot be written.

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
    if cache == "":
        raise invalid_value("cache", expected="True, False or the path of a folder", received="an empty string")
    for name, function in (("augment", augment), ("parse", parse)):
        if function is not None and not callable(function):
            raise invalid_type(name, expected="a function of one sample", received=function)
    samples, arrays, source = _samples(data, image_size)
    if parse is None and isinstance(samples, tf.data.TFRecordDataset):
        expected = "a function of one serialized record, for TFRecord files"
        fix = "Such as parse=lambda record: tf.io.parse_single_example(record, features)."
        raise invalid_value("parse", expected=expected, received=None, fix=fix)
    parsed = samples
    if parse is not None:
        _check_traces("parse", parse, samples)
        parsed = samples.map(parse, tf.data.AUTOTUNE)
    is_read = arrays is None or parse is not None
    if not isinstance(cache, bool) and is_read:
        parsed = kept_in(cache, parsed, content_key(source(), parse, samples) if source is not None else None)
    elif cache and is_read:
        parsed = parsed.cache()
    samples = parsed
    count = int(samples.cardinality())
    # What arrays hold is picked by its position, a batch at once.
    picked = samples if is_read else tf.data.Dataset.range(count)
    if shuffle:
        picked = picked.shuffle(min(count, _BUFFER) if is_read and count > 0 else max(count, _BUFFER), seed=seed)
    whole = augment is None or _of_one_shape(samples)
    if augment is not None:
        _check_traces("augment", augment, samples)
    if augment is not None and not whole:
        picked = picked.map(augment, tf.data.AUTOTUNE)
    batches = picked.batch(batch, num_parallel_calls=tf.data.AUTOTUNE)
    if not is_read:
        batches = batches.map(lambda rows: keras.tree.map_structure(lambda array: tf.gather(array, rows), arrays))
    if augment is not None and whole:
        batches = batches.map(_of_batches(augment, samples), tf.data.AUTOTUNE)  # in order: the smaller one stays last
    return batches.prefetch(tf.data.AUTOTUNE)


def _check_traces(name: str, function: Callable[..., Tensors], samples: tf.data.Dataset) -> None:
    """Raise for a function that is none of TensorFlow operations, whatever it raises."""
    try:
        samples.map(function)
    except Exception as error:
        if _returns_nothing(function, samples):
            expected = "a function that returns the sample it makes"
            raise invalid_value(name, expected=expected, received="one that returns None") from error
        said = str(error).strip().splitlines()[-1:]
        received = f"one that fails with {': '.join([type(error).__name__, *said])}"
        fix = "Use tf.image and tf.random, or wrap NumPy with tf.numpy_function."
        raise invalid_value(
            name, expected="a function of one sample, of TensorFlow operations", received=received, fix=fix
        ) from error


def _returns_nothing(function: Callable[..., Tensors], samples: tf.data.Dataset) -> bool:
    """Whether a function that tf.data refuses returns, and no tensor: tf.data has many words for that."""
    made: list[Tensors] = []
    with suppress(Exception):  # what tf.data refuses it for is raised by the caller
        samples.map(lambda *sample: made.append(function(*sample)))
    return bool(made) and all(leaf is None for leaf in keras.tree.flatten(made))


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


def _samples(
    data: Any, image_size: tuple[int, int] | None
) -> tuple[tf.data.Dataset, Tensors | None, Callable[[], str] | None]:
    """Single samples, the arrays that they are rows of, where they are in memory, and what tells them from others."""
    if isinstance(data, tf.data.Dataset):
        _check_single(data)
        return data, None, None
    if isinstance(data, (str, os.PathLike)) and Path(data).is_dir():
        classes = class_folders(Path(data))
        if image_size is None:
            expected = "a height and a width, for a folder of images"
            fix = "Pass those of the model: image_size=(96, 96)."
            raise invalid_value("image_size", expected=expected, received=None, fix=fix)
        check_image_size(image_size)
        listing = list_images(Path(data), classes, image_size)[0]
        return listing.samples(), None, lambda: of_files(listing.files.tolist(), listing.labels.tolist(), image_size)
    files = [data] if isinstance(data, (str, os.PathLike)) else data
    if isinstance(files, (list, tuple)) and files and all(isinstance(file, (str, os.PathLike)) for file in files):
        names = [os.fspath(file) for file in files]
        return _records(names), None, lambda: of_files(names)
    arrays = data if isinstance(data, tuple) else (data,)
    lengths = {len(leaf) for leaf in keras.tree.flatten(arrays) if hasattr(leaf, "shape") and len(leaf.shape)}
    if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(arrays)):
        expected = "arrays, a tf.data.Dataset, a folder of images or TFRecord files"
        raise invalid_type("data", expected=expected, received=data)
    if len(lengths) != 1 or 0 in lengths:
        raise invalid_value("data", expected="arrays of as many samples, at least one", received=sorted(lengths))
    data = (_with_tuples(data),) if isinstance(data, list) else _with_tuples(data)
    with tf.device("cpu"):  # where the stages of tf.data run
        tensors = keras.tree.map_structure(tf.convert_to_tensor, data)
    return tf.data.Dataset.from_tensor_slices(tensors), tensors, lambda: of_arrays(tensors)


def _with_tuples(data: Any) -> Any:
    """Data with a tuple for each list of arrays, such as the inputs of a model: tf.data would stack those of a list."""
    if isinstance(data, Mapping):
        return {name: _with_tuples(value) for name, value in data.items()}
    return tuple(map(_with_tuples, data)) if isinstance(data, (list, tuple)) else data


def _check_single(dataset: tf.data.Dataset) -> None:
    """Raise for a dataset of none, or of batches: one whose last stages end with ``batch``, and only map or order."""
    if int(dataset.cardinality()) == 0:
        raise invalid_value("data", expected="at least one sample", received="a dataset of none")
    stage, mapped = dataset, False
    while len(before := stage._inputs()) == 1 and not re.search("Batch|Flat|Interleave|Window", type(stage).__name__):
        mapped = mapped or "Map" in type(stage).__name__
        stage = before[0]
    shapes = [getattr(spec, "shape", None) for spec in keras.tree.flatten(dataset.element_spec)]
    # Windows of rows, batch(10, drop_remainder=True), become samples by a function.
    are_windows = mapped and all(shape is not None and shape.rank and shape[0] is not None for shape in shapes)
    are_single = are_windows or any(shape is not None and shape.rank == 0 for shape in shapes)
    if re.fullmatch("_.*(?<!Un)BatchDataset", type(stage).__name__) and not are_single:
        fix = "Call .unbatch() on it, or leave .batch out: tg.pipeline makes the batches."
        raise invalid_value("data", expected="a tf.data.Dataset of single samples", received="batches", fix=fix)


def _records(files: Sequence[str]) -> tf.data.Dataset:
    if missing := [file for file in files if not Path(file).is_file()]:
        raise invalid_value("data", expected="files that exist", received=missing)
    held = 0
    for file in files:
        try:
            held += sum(1 for _ in tf.data.TFRecordDataset(file).take(1))
        except tf.errors.OpError as error:
            raise FileError(f"{file}: expected TFRecords, received something else.") from error
    if not held:
        raise invalid_value("data", expected="at least one record", received=f"{len(files)} empty files")
    return tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE)
