"""Images in folders, one for each class, which are decoded when they are needed."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.checks import check_instance, check_integer
from tfgreen.errors import FileError, invalid_state, invalid_value
from tfgreen.files import reading

if TYPE_CHECKING:
    import tensorflow as tf

# Suffix -> how the file begins.
_KINDS = {".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".png": b"\x89PNG", ".bmp": b"BM", ".gif": b"GIF8"}
_TOGETHER = 2**22  # bytes of the images that one call reads


def check_image_size(size: Any) -> None:
    """Raise unless ``size`` is a height and a width in pixels."""
    check_instance("image_size", size, (tuple, list), "a tuple (height, width)")
    if len(size) != 2:
        raise invalid_value("image_size", expected="(height, width)", received=size)
    for side in size:
        check_integer("image_size", side, minimum=1)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageListing:
    """Images by the names of their files, each with its class number."""

    files: np.ndarray
    labels: np.ndarray
    size: tuple[int, int] | None
    channels: int
    labelled = True

    def __len__(self) -> int:
        return len(self.files)

    def pick(self, rows: np.ndarray) -> ImageListing:
        """The images of these numbers."""
        return dataclasses.replace(self, files=self.files[rows], labels=self.labels[rows])

    def samples(self, shuffle: bool = False) -> tf.data.Dataset:
        """Single float32 images of 0 to 255, each with its int64 class number."""
        import tensorflow as tf

        if self.size is None:
            raise invalid_state("The images of the folder have no size.", "Pass image_size=(height, width).")
        listed = tf.data.Dataset.from_tensor_slices((self.files, self.labels))
        if shuffle:
            listed = listed.shuffle(len(self))

        shape = (*self.size, self.channels)

        @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
        def decode(name: Any) -> Any:
            with tf.device("cpu"):
                image = tf.io.decode_image(tf.io.read_file(name), channels=self.channels, expand_animations=False)
                return tf.image.resize(image, self.size)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def decode_all(names: Any) -> Any:
            return tf.map_fn(decode, names, fn_output_signature=tf.TensorSpec(shape, tf.float32))

        traced, single = decode_all.get_concrete_function(), decode.get_concrete_function()

        def read(names: np.ndarray) -> np.ndarray:  # in Python, so that an error names the file
            try:
                images: np.ndarray = traced(tf.constant(names)).numpy()
            except tf.errors.OpError:
                return np.stack([_named(single, name) for name in names])
            return images

        def read_all(names: Any, labels: Any) -> Any:
            return tf.ensure_shape(tf.numpy_function(read, [names], tf.float32), (None, *shape)), labels

        # Several at a time: a call into Python costs as much as a small image.
        together = int(np.clip(_TOGETHER // (4 * math.prod(shape)), 1, 32))
        images = listed.batch(together).map(read_all, tf.data.AUTOTUNE).unbatch()
        return images.apply(tf.data.experimental.assert_cardinality(len(self)))

    def batches(self, batch_size: int, shuffle: bool) -> tf.data.Dataset:
        """Batches of :meth:`samples`."""
        import tensorflow as tf

        return self.samples(shuffle).batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def contents(self) -> Iterator[tuple[str, str | None]]:
        """The class number of each image, and how images are read."""
        yield f"images {self.size} {self.channels}", None
        for file, label in zip(self.files, self.labels):
            yield str(label), os.fsdecode(file)


def _named(decode: Callable[[Any], Any], name: bytes) -> np.ndarray:
    """An image, or an error that names its file."""
    import tensorflow as tf

    try:
        image: np.ndarray = decode(tf.constant(name)).numpy()
    except tf.errors.OpError as error:
        raise FileError(f"{os.fsdecode(name)}: expected an image, received damaged data.") from error
    return image


def class_folders(folder: Path) -> list[str]:
    """The names of the classes: of the folders in a folder; raises where there are none."""
    classes = [item.name for item in folders(folder)]
    if not classes:
        expected = f"a folder with one folder of images ({', '.join(_KINDS)}) for each class"
        raise FileError(f"{folder}: expected {expected}, received no folders.")
    return classes


def list_images(
    folder: Path, classes: Sequence[str], size: tuple[int, int] | None, channels: int = 3
) -> tuple[ImageListing, int]:
    """The images of a folder of classes, and how many other files there are."""
    files, labels, left_out = list[str](), list[int](), 0
    for item in folders(folder):
        if item.name not in classes:
            raise FileError(f"{item}: expected a class of the training split ({', '.join(classes)}), received another.")
        found = sorted(file for file in item.iterdir() if not file.name.startswith("."))
        images = [file for file in found if file.suffix.lower() in _KINDS]
        if not images:
            raise FileError(f"{item}: expected images ({', '.join(_KINDS)}), received none.")
        for file in images:
            _check_kind(file)
        files += [os.fspath(file) for file in images]
        labels += [classes.index(item.name)] * len(images)
        left_out += len(found) - len(images)
    if not files:
        raise FileError(f"{folder}: expected a folder of images for each class, received no folders.")
    encoded = np.array([os.fsencode(file) for file in files])
    return ImageListing(encoded, np.array(labels, "int64"), size and (size[0], size[1]), channels), left_out


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones."""
    return sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith((".", "__")))


def _check_kind(file: Path) -> None:
    """Raise unless a file begins as an image of any kind does; which one, the decoder finds out."""
    with reading(file), open(file, "rb") as stream:
        start = stream.read(8)
    if not any(start.startswith(kind) for kind in _KINDS.values()):
        what = "received an empty file" if not start else "received something else"
        raise FileError(f"{file}: expected an image ({', '.join(_KINDS)}), {what}.")
