"""CompressionSummaries: what masks and codebooks do, epoch by epoch, for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfgreen.checks import check_instance
from tfgreen.errors import invalid_value
from tfgreen.files import check_room
from tfgreen.training.callbacks import without_compressed
from tfgreen.transforms.base import TensorTransform
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compressed import chained_weights, compressed_layers
from tfgreen.transforms.mask import Mask
from tfgreen.typing import FilePath, PlainDict, Tensor


class CompressionSummaries(keras.callbacks.Callback):
    """Write the state of every masked or clustered weight at the end of each epoch.

    The tags are ``<layer>/<weight>/sparsity`` (share of zeros) and ``<layer>/<weight>/threshold`` (the smallest
    magnitude that is not zeroed); for a clustered weight ``<layer>/<weight>/centroid_<i>`` (the value of cluster i) and
    ``<layer>/<weight>/count_<i>`` (how many weights have it), the channels of a cluster one after the other where each
    has its own. The step is the number of finished batches. List it after ``tg.UpdateCompression()``.

    Args:
        log_dir: Folder for the event files, made if missing.

    Raises:
        TypeError, ValueError: ``log_dir`` is no path, or empty; the model holds no compressed layer.
        FileError: ``log_dir`` is a file, or cannot be written.

    Example:
        >>> import keras, numpy as np, os, tempfile, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> pruned = tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0)))
        >>> pruned.compile("sgd", "mse")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     callbacks = [tg.UpdateCompression(), tg.CompressionSummaries(folder)]
        ...     _ = pruned.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0, callbacks=callbacks)
        ...     len(os.listdir(folder))
        1
    """

    def __init__(self, log_dir: FilePath) -> None:
        super().__init__()
        check_instance("log_dir", log_dir, (str, os.PathLike), "the path of a folder")
        if not os.fspath(log_dir):
            raise invalid_value("log_dir", expected="the path of a folder", received="an empty string")
        check_room(log_dir)
        self.log_dir = os.fspath(log_dir)

    def on_train_begin(self, logs: PlainDict | None = None) -> None:
        if not compressed_layers(self.model):
            raise without_compressed(self.model)
        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: PlainDict | None = None) -> None:
        with self._writer.as_default():
            for name, value, step in compression_scalars(self.model):
                write_scalar(name, value, step)
        self._writer.flush()

    def on_train_end(self, logs: PlainDict | None = None) -> None:
        self._writer.close()


def compression_scalars(model: keras.Model) -> Iterator[tuple[str, float, int]]:
    """The tags and values of every masked or clustered weight, each with the number of finished batches."""
    for path, _, weight in chained_weights(model):
        for transform in weight.chain.transforms:
            step = int(keras.ops.convert_to_numpy(transform.step)) if transform.scheduled else 0
            for name, value in _scalars(transform, weight.value).items():
                yield f"{path}/{weight.chain.weight}/{name}", value, step


def _scalars(transform: TensorTransform, weight: Tensor) -> dict[str, float]:
    """The state of a mask or a codebook by name."""
    if isinstance(transform, Mask) and transform.scheduled:
        magnitudes = np.abs(keras.ops.convert_to_numpy(weight))[keras.ops.convert_to_numpy(transform.mask)]
        return {"sparsity": transform.sparsity, "threshold": float(magnitudes.min()) if magnitudes.size else 0.0}
    if isinstance(transform, Codebook):
        centroids = {f"centroid_{i}": float(value) for i, value in enumerate(transform.values().reshape(-1))}
        return {**centroids, **{f"count_{i}": float(count) for i, count in enumerate(transform.counts().reshape(-1))}}
    return {}


def write_scalar(tag: str, value: float, step: int) -> None:
    """What ``tf.summary.scalar`` writes; that one needs TensorBoard installed, which only reading should."""
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
        data_class=1,  # DATA_CLASS_SCALAR of TensorFlow's summary.proto
    )
    tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=metadata)
