"""Selective backpropagation: the backward pass runs on the samples with the largest loss only.

Source: A. Jiang et al., "Accelerating Deep Learning by Focusing on the Biggest Losers", 2019, arXiv:1910.00762; the
schedule (the middle of the training, from 50 % to 90 % of it) is that of MosaicML's Composer.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf

from tfgreen.errors import invalid_value
from tfgreen.model.layer_calls import listening
from tfgreen.training.accumulate import TrainStep
from tfgreen.typing import PlainDict, Tensor, Tensors

_FROM, _UNTIL = 0.5, 0.9  # shares of the training between which samples are left out


class HardestSamples(keras.callbacks.Callback):
    """Trains on the ``keep_fraction`` of each batch with the largest loss, in the middle of the training.

    The losses are those of a forward pass in inference mode. Used by :func:`tfgreen.recipes.economy.fit.fit`, which
    hands its :meth:`step` to Keras.

    Args:
        model: A compiled model of one output.
        keep_fraction: Share of the samples, in (0, 1).
        epochs: Epochs of the whole training.

    Raises:
        ValueError: The model has several outputs, or no compiled loss that can be taken of each sample.
    """

    def __init__(self, model: keras.Model, keep_fraction: float, epochs: int) -> None:
        super().__init__()
        self._losses = _loss_per_sample(model)
        self._predict = model
        self.keep_fraction, self.epochs = keep_fraction, epochs
        self._fraction = tf.Variable(1.0, trainable=False)

    def fraction_at(self, epoch: int) -> float:
        """The share of the samples that are kept in an epoch: all in the last one."""
        is_last = epoch + 1 >= self.epochs
        return self.keep_fraction if _FROM <= epoch / self.epochs < _UNTIL and not is_last else 1.0

    def on_epoch_begin(self, epoch: int, logs: PlainDict | None = None) -> None:
        self._fraction.assign(self.fraction_at(epoch))

    def step(self, step: TrainStep) -> TrainStep:
        """A training step that runs ``step`` on the hardest samples."""

        @functools.wraps(step)
        def selected_step(data: Tensors) -> PlainDict:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
            leaves = tf.nest.flatten((x, y, weight))
            tensors = [tf.convert_to_tensor(leaf) for leaf in leaves if leaf is not None]

            def hardest() -> list[Tensor]:
                losses = self._losses(y, self._predict(x, training=False))
                losses = tf.reduce_mean(tf.reshape(losses, (tf.shape(losses)[0], -1)), axis=1)
                count = tf.cast(tf.math.ceil(tf.cast(tf.size(losses), "float32") * self._fraction), "int32")
                chosen = tf.math.top_k(losses, count, sorted=False).indices
                return [tf.gather(tensor, chosen) for tensor in tensors]

            kept = iter(tf.cond(self._fraction < 1.0, hardest, lambda: tensors))
            present = functools.partial(filter, lambda leaf: leaf is not None)
            packed = [None if leaf is None else next(kept) for leaf in leaves]
            whole, few = (tf.cast(tf.shape(next(iter(one)))[0], "float32") for one in (tensors, present(packed)))

            def update_state(metric: Any, call: Any, values: Any, sample_weight: Any = None) -> Any:
                # The samples that are left out have been looked at, and count where others divide by the samples seen.
                return call(values, None if sample_weight is None else tf.cast(sample_weight, "float32") * whole / few)

            means = [metric for metric in self._predict.metrics if type(metric) is keras.metrics.Mean]
            with listening({(metric, "update_state"): update_state for metric in means}):
                return step(tf.nest.pack_sequence_as((x, y, weight), packed))

        return selected_step


def _loss_per_sample(model: keras.Model) -> Any:
    outputs = keras.tree.flatten(getattr(model, "outputs", None) or [None])
    loss = model.loss
    if len(outputs) != 1 or not isinstance(loss, (str, keras.losses.Loss)) and not callable(loss):
        expected = "a model of one output with one compiled loss, for keep_fraction"
        received = f"{len(outputs)} outputs, loss {loss!r}"
        raise invalid_value(f"model '{model.name}'", expected=expected, received=received, fix="Leave it at 1.")
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        loss = type(loss).from_config({**loss.get_config(), "reduction": None})
    return loss
