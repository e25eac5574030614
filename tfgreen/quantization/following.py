"""Ranges that follow a whole batch, while the batch goes through the model in parts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from tfgreen.quantization.activation_quantizer import ActivationQuantizer
from tfgreen.quantization.ranges import ActivationRange, LearnedRange
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.transforms.whole_batch import WholeBatch, giving, keeping
from tfgreen.typing import Tensors

_OF_NO_BATCH = (ActivationRange.follow, LearnedRange.follow)


def following_ranges(model: keras.Model) -> list[ActivationRange]:
    """The ranges of a model that move with the training batches, such as moving averages."""
    hooks = [layer.activations for _, layer in compressed_layers(model)]
    moving = [hook for hook in hooks if isinstance(hook, ActivationQuantizer) and hook.freeze_after != 0]
    return [range_ for hook in moving for range_ in hook.ranges() if type(range_).follow not in _OF_NO_BATCH]


@contextlib.contextmanager
def following(model: keras.Model, ranges: list[ActivationRange], inputs: Tensors) -> Iterator[None]:
    """Move ``ranges`` by the batch ``inputs``, as a training step with the whole of it would, and then, in the block,
    let them stay as they are.

    What a range sees depends on the ranges before it, so that the whole batch has to run through the model: without
    gradients, which takes the memory of its largest layer and about a third of the time of a training step. What else a
    training step changes, such as statistics and the seeds of dropout, is put back.
    """
    own = {id(variable) for range_ in ranges for variable in range_.non_trainable_variables}
    others = [variable for variable in model.non_trainable_variables if id(variable) not in own]
    before = [tf.identity(variable.value) for variable in others]
    batch = WholeBatch()
    with keeping(batch):
        model(inputs, training=True)
    for variable, value in zip(others, before):
        variable.assign(value)
    with giving(batch):
        yield
