"""Batch normalization: statistics for weights that have changed since they were gathered, and a faster inference.

Reference: M. Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", 2022, arXiv:2203.11086
(re-estimation of batch normalization).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.paths import check_built_model, walk
from tfgreen.model.rebuild import rebuild

_LEAST_EPSILON = 1.001e-5  # that the fused operator takes on every device


def recalibrate_batch_norm(model: keras.Model, data: Any, batch_size: int = 128) -> keras.Model:
    """Return a copy of ``model`` whose BatchNormalization layers hold the mean and variance of ``data``.

    A batch normalization follows the statistics of its inputs slowly (by 1 % per batch with the usual momentum). After
    a short training of changed weights, such as clustered ones, they are still partly those of the weights before. Here
    they become the plain average over the batches of ``data``, which is run forward only; no weight is trained.

    Args:
        model: A built model, usually from ``tg.strip``. It is not changed.
        data: Inputs of shape (samples, ...), or a list or dict of arrays as the model takes them; a few thousand
            training samples.
        batch_size: Samples in a batch; a last batch that is cut short is left out.

    Returns:
        The copy, not compiled; without batch normalization an equal one.

    Raises:
        TypeError: ``model`` is no ``keras.Model``, or ``data`` holds no arrays.
        ValueError: The model is not built, or there is not one whole batch.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization(name="norm")])
        >>> data = np.random.default_rng(0).normal(3.0, 1.0, (256, 2)).astype("float32")
        >>> np.round(tg.recalibrate_batch_norm(model, data).get_layer("norm").moving_mean.numpy()).tolist()
        [3.0, 3.0]
    """
    check_built_model(model)
    arrays = keras.tree.flatten(data)
    if not arrays or not all(isinstance(array, np.ndarray) for array in arrays):
        raise invalid_type("data", expected="a NumPy array, or a list or dict of them", received=data)
    batches = len(arrays[0]) // batch_size
    if not batches:
        raise invalid_value("data", expected=f"at least one batch of {batch_size} samples", received=len(arrays[0]))
    result = rebuild(model, lambda path, layer: layer)
    norms = [layer for _, layer in walk(result) if isinstance(layer, keras.layers.BatchNormalization)]
    momenta, frozen = [norm.momentum for norm in norms], [norm.trainable for norm in norms]
    for norm in norms:
        norm.trainable = True  # a frozen one would not look at the data
    for index in range(batches if norms else 0):
        for norm in norms:
            norm.momentum = index / (index + 1)  # which makes the moving average a plain one
        batch = keras.tree.map_structure(lambda array: array[index * batch_size : (index + 1) * batch_size], data)
        result(batch, training=True)
    for norm, momentum, trainable in zip(norms, momenta, frozen):
        norm.momentum, norm.trainable = momentum, trainable
    return result


def fused_inference(norm: keras.layers.BatchNormalization) -> Callable[..., Any]:
    """A function in the place of ``norm.call`` that computes inference on images as one TensorFlow operator.

    Keras computes it as a product and a sum, two passes over the tensor; TensorFlow can merge one operator into the
    convolution before it.

    Example:
        >>> norm = keras.layers.BatchNormalization()
        >>> x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
        >>> bool(np.allclose(norm(x, training=False), fused_inference(norm)(x, training=False), atol=1e-6))
        True
    """
    plain_call = norm.call
    fits = norm.axis in (-1, 3) and norm.epsilon >= _LEAST_EPSILON

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        x = tf.convert_to_tensor(inputs)
        if training or not fits or x.shape.rank != 4 or x.dtype not in (tf.float32, tf.float16):
            return plain_call(inputs, training=training, mask=mask)
        # In a mixed-precision model Keras gives the variables in float16; the operator takes them in float32.
        mean, variance = (tf.cast(v.value, "float32") for v in (norm.moving_mean, norm.moving_variance))
        scale = tf.ones_like(mean) if norm.gamma is None else tf.cast(norm.gamma.value, "float32")
        offset = tf.zeros_like(mean) if norm.beta is None else tf.cast(norm.beta.value, "float32")
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=mean, variance=variance, epsilon=norm.epsilon, is_training=False
        ).y

    return call
