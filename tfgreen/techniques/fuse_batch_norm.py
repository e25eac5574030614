"""fuse_batch_norm: batch normalization that trains as one operator."""

from __future__ import annotations

import warnings

import keras

from tfgreen.errors import layer_subject
from tfgreen.model.batch_norm import fuse_training, why_unfused
from tfgreen.model.paths import check_built_model, walk
from tfgreen.model.rebuild import rebuild


def fuse_batch_norm(model: keras.Model) -> keras.Model:
    """Return a copy of ``model`` that trains in less time: its batch normalizations run as one TensorFlow operator.

    Keras 3 computes mean, variance, product and sum one after the other, and their gradients so too; on a CPU, a small
    residual network spends a quarter of its training there. Outputs, statistics and gradients are the same up to
    rounding, and inference is the same to the bit. The copy is an ordinary model: what is saved or cloned is plain
    Keras, and trains as that does. The models that ``tg.prune``, ``tg.cluster``, ``tg.quantize`` and
    ``tg.prune_channels`` return have it already, and so has the student of a ``tg.Distiller``.

    Fused are layers with the channels on the last axis and an epsilon of at least 1.001e-5, which Keras's default is,
    in float32 and without a mask; any other trains as before.

    Args:
        model: A built model. It is not changed.

    Returns:
        The copy, not compiled; without batch normalization an equal one.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built.

    Warns:
        UserWarning: Batch normalizations cannot be fused; the first is named, with the reason.

    Example:
        >>> import keras, tfgreen as tg
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
        >>> model = tg.fuse_batch_norm(keras.Sequential(layers))
        >>> type(model.layers[-1]).__name__
        'BatchNormalization'
    """
    check_built_model(model)
    norms = [(path, layer) for path, layer in walk(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if left := [f"{layer_subject(path, norm)}: {why}." for path, norm in norms if (why := why_unfused(norm))]:
        warnings.warn(f"{len(left)} of {len(norms)} batch normalizations train as before. {left[0]}", stacklevel=2)
    result = rebuild(model, lambda path, layer: layer)
    fuse_training(result)
    return result
