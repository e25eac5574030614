"""CompressionSummaries: what the masks do, epoch by epoch, for TensorBoard."""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np

from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.graph import weights_by_path
from tfgreen.transforms.layers import compressed_layers
from tfgreen.transforms.mask import Mask


class CompressionSummaries(keras.callbacks.Callback):
    """Write sparsity and threshold of every masked weight at the end of each epoch.

    The tags are ``<layer>/<weight>/sparsity`` (share of zeros) and ``<layer>/<weight>/threshold`` (the smallest
    magnitude that is kept); the step is the number of finished batches. List it after ``tg.UpdateCompression()``.

    Args:
        log_dir: Folder for the event files, made if missing.

    Raises:
        TypeError, ValueError: ``log_dir`` is no path, or empty.

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

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        if not isinstance(log_dir, (str, os.PathLike)):
            raise invalid_type("log_dir", expected="the path of a folder", received=log_dir)
        if not os.fspath(log_dir):
            raise invalid_value("log_dir", expected="the path of a folder", received="an empty string")
        self.log_dir = os.fspath(log_dir)
        self._writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with self._writer.as_default():
            for path, layer in compressed_layers(self.model):
                weights = weights_by_path(layer.layer)
                for chain in layer.chains:
                    for mask in (t for t in chain.transforms if isinstance(t, Mask)):
                        magnitude = np.abs(keras.ops.convert_to_numpy(weights[chain.weight].value))
                        kept = magnitude[keras.ops.convert_to_numpy(mask.mask)]
                        step = int(keras.ops.convert_to_numpy(mask.step))
                        tag = f"{path}/{chain.weight}"
                        _write_scalar(f"{tag}/sparsity", mask.sparsity, step)
                        _write_scalar(f"{tag}/threshold", float(kept.min()) if kept.size else 0.0, step)
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._writer.close()


def _write_scalar(tag: str, value: float, step: int) -> None:
    """What ``tf.summary.scalar`` writes; that one needs TensorBoard installed, which only reading should."""
    import tensorflow as tf

    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
        data_class=1,  # DATA_CLASS_SCALAR of TensorFlow's summary.proto
    )
    tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=metadata)
