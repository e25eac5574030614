"""Progressive resizing: a convolutional network sees smaller images first, and those of full size at the end.

Source: the schedule is that of progressive resizing in MosaicML's Composer (small for the first half of the training,
full size for its last fifth).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfgreen.errors import InvalidValueError, invalid_value, layer_subject
from tfgreen.model.internals import is_graph, run_symbolically, sizes_unchecked
from tfgreen.model.layer_calls import around_calls
from tfgreen.model.paths import walk
from tfgreen.training.accumulate import TrainStep
from tfgreen.typing import PlainDict, Tensors

_SMALL, _FULL = 0.5, 0.8  # shares of the training until which images have the first size, and from which the full one
_MULTIPLE = 4  # of pixels


class ProgressiveResizing(keras.callbacks.Callback):
    """Trains on images of ``start`` times their sides at first, of all sizes up to the full one then.

    Used by :func:`tfgreen.recipes.economy.fit.fit`, which hands its :meth:`step` to Keras.

    Args:
        model: A model of one image input (batch, height, width, channels) of known size, whose outputs have one shape
            whatever the size: one that ends in a global pooling.
        start: The first share of height and width, in (0, 1).
        epochs: Epochs of the whole training.

    Raises:
        ValueError: The model has another input, or a layer that needs the full size, which is named.
    """

    def __init__(self, model: keras.Model, start: float, epochs: int) -> None:
        super().__init__()
        self.full = _image_size(model)
        self.start, self.epochs = start, epochs
        check_sizes(model, self.size_at(0))
        self._size = tf.Variable(self.size_at(0), dtype="int32", trainable=False)

    def size_at(self, epoch: int) -> tuple[int, int]:
        """Height and width in an epoch: whole multiples of four pixels, but for the full size, as in the last one.

        Example:
            >>> model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D()])
            >>> [ProgressiveResizing(model, 0.5, epochs=10).size_at(epoch) for epoch in (0, 6, 9)]
            [(16, 16), (20, 20), (32, 32)]
        """
        done = min(max((epoch / self.epochs - _SMALL) / (_FULL - _SMALL), 0.0), 1.0)
        done = 1.0 if epoch + 1 >= self.epochs else done
        share = self.start + (1 - self.start) * done
        height, width = (
            side if share >= 1 else min(side, max(_MULTIPLE, int(side * share) // _MULTIPLE * _MULTIPLE))
            for side in self.full
        )
        return height, width

    def on_epoch_begin(self, epoch: int, logs: PlainDict | None = None) -> None:
        self._size.assign(self.size_at(epoch))

    def step(self, step: TrainStep) -> TrainStep:
        """A training step that runs ``step`` on resized images."""

        @functools.wraps(step)
        def resized_step(data: Tensors) -> PlainDict:
            x, *targets = data if isinstance(data, (list, tuple)) else (data,)
            (image,) = keras.tree.flatten(x)
            small = tf.cond(
                tf.reduce_all(tf.equal(tf.shape(image)[1:3], self._size)),
                lambda: tf.cast(image, "float32"),
                lambda: tf.image.resize(image, self._size, antialias=True),
            )
            return step((keras.tree.pack_sequence_as(x, [small]), *targets))

        return resized_step


def _image_size(model: keras.Model) -> tuple[int, int]:
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    shapes = [tuple(tensor.shape) for tensor in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:3]:
        expected = "one image input (batch, height, width, channels) of known size, for resize"
        raise invalid_value(f"model '{model.name}'", expected=expected, received=shapes or "no graph of layers")
    if not inputs[0].dtype.startswith("float"):
        expected = "an input of floats, for resize, which averages pixels"
        raise invalid_value(f"model '{model.name}'", expected=expected, received=inputs[0].dtype)
    return shapes[0][1], shapes[0][2]


@contextlib.contextmanager
def any_size(model: keras.Model) -> Iterator[None]:
    """In the block, the graphs of a model take inputs of other sizes than those they were made for."""
    with contextlib.ExitStack() as stack:
        for graph in [model, *(layer for _, layer in walk(model))]:
            if is_graph(graph) or isinstance(graph, keras.Sequential):
                stack.enter_context(sizes_unchecked(graph))
        yield


def check_sizes(model: keras.Model, size: tuple[int, int]) -> None:
    """Raise unless the model computes outputs of the same shape from images of ``size``; the layer is named."""
    last: list[tuple[str, keras.Layer]] = []
    paths = {layer: path for path, layer in walk(model)}

    def around(layer: keras.Layer, call: Any, *args: object, **kwargs: object) -> Any:
        last.append((paths[layer], layer))
        return call(*args, **kwargs)

    (full,) = keras.tree.flatten(model.inputs)
    small = keras.KerasTensor((full.shape[0], *size, full.shape[3]), full.dtype)
    with any_size(model), around_calls(paths, around):
        try:
            outputs = run_symbolically(model, small)
            shapes = [tuple(tensor.shape) for tensor in keras.tree.flatten(outputs)]
        except Exception as error:  # a layer may raise anything on a shape that it cannot take
            subject = layer_subject(*last[-1]) if last else f"model '{model.name}'"
            raise _fixed(subject, size, "one that needs the full size") from error
    expected = [tuple(tensor.shape) for tensor in keras.tree.flatten(model.outputs)]
    if shapes != expected:
        raise _fixed(f"model '{model.name}'", size, f"outputs of shapes {shapes} in the place of {expected}")


def _fixed(subject: str, size: tuple[int, int], received: str) -> InvalidValueError:
    expected = f"a layer that takes smaller images too, here of {size[0]} x {size[1]}, for resize"
    fix = "End the network in a global pooling, or train without resize."
    return invalid_value(subject, expected=expected, received=received, fix=fix)
