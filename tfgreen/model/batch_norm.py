"""What a batch normalization computes in inference: a product and a sum, and both as one TensorFlow operator."""

from __future__ import annotations

import types
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from tfgreen.model.paths import walk
from tfgreen.typing import Tensor

_LEAST_EPSILON = 1.001e-5  # that the fused operator takes on every device


def norm_parameters(
    norm: keras.layers.BatchNormalization, dtype: str | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gamma, beta, moving mean and moving variance of a built layer, each of shape (channels,), as they are stored or
    cast to ``dtype``; ones and zeros for what it has not."""
    mean, variance = (ops.convert_to_tensor(variable, dtype) for variable in (norm.moving_mean, norm.moving_variance))
    gamma = ops.ones_like(mean) if norm.gamma is None else ops.convert_to_tensor(norm.gamma, dtype)
    beta = ops.zeros_like(mean) if norm.beta is None else ops.convert_to_tensor(norm.beta, dtype)
    return gamma, beta, mean, variance


def gain_and_bias(
    norm: keras.layers.BatchNormalization, bias: Tensor | float = 0.0, dtype: str | None = None
) -> tuple[Tensor, Tensor]:
    """What inference multiplies by, and then adds: ``norm(x + bias) == gain * x + new_bias``, per channel.

    ``gain = gamma / sqrt(variance + epsilon)`` and ``new_bias = (bias - mean) * gain + beta``, each of shape
    (channels,), computed in ``dtype`` or else in that of the layer's weights. ``bias`` is that of the kernel before it.

    Example:
        >>> import numpy as np
        >>> norm = keras.layers.BatchNormalization(epsilon=0.0)
        >>> norm.build((None, 1)); norm.set_weights([np.array([v]) for v in (6.0, 1.0, 2.0, 4.0)])
        >>> [float(ops.squeeze(value)) for value in gain_and_bias(norm, bias=3.0)]
        [3.0, 4.0]
    """
    gamma, beta, mean, variance = norm_parameters(norm, dtype)
    gain = ops.rsqrt(variance + norm.epsilon) * gamma
    return gain, (bias - mean) * gain + beta


def fused_inference(norm: keras.layers.BatchNormalization) -> Callable[..., Tensor]:
    """A function in the place of ``norm.call`` that computes inference on images as one TensorFlow operator, which
    TensorFlow can fuse with the convolution before it. Keras computes a product and a sum, two passes over the tensor.

    Example:
        >>> import numpy as np
        >>> norm = keras.layers.BatchNormalization()
        >>> x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
        >>> bool(np.allclose(norm(x, training=False), fused_inference(norm)(x, training=False), atol=1e-6))
        True
    """
    plain_call = norm.call
    fits = norm.axis in (-1, 3) and norm.epsilon >= _LEAST_EPSILON

    def call(inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        x = tf.convert_to_tensor(inputs)
        if training or not fits or x.shape.rank != 4 or x.dtype not in (tf.float32, tf.float16):
            return plain_call(inputs, training=training, mask=mask)
        # In a mixed-precision model Keras gives the variables in float16; the operator takes them in float32.
        gamma, beta, mean, variance = norm_parameters(norm, "float32")
        return tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=norm.epsilon, is_training=False
        ).y

    return call


def why_unfused(norm: keras.layers.BatchNormalization) -> str:
    """Why :func:`fuse_training` leaves a built layer as it is, empty where it does not."""
    if type(norm).call is not keras.layers.BatchNormalization.call:
        return "its class computes something of its own"
    if norm.epsilon < _LEAST_EPSILON:
        return f"its epsilon of {norm.epsilon} is below {_LEAST_EPSILON}, the operator's least"
    if getattr(norm, "renorm", False) or norm.synchronized:  # Keras 3.12 does not renormalize
        return "it renormalizes, or synchronizes its statistics, which the operator does not"
    if norm.axis not in (-1, norm.input_spec.ndim - 1):
        return f"its axis {norm.axis} is not the last one"
    if norm.compute_dtype != "float32":
        return f"it computes in {norm.compute_dtype}, the operator in float32"
    return ""


def fuse_training(model: keras.Model) -> None:
    """Let the batch normalizations of a built model, in place, compute training as one TensorFlow operator, forward and
    backward. Keras computes the statistics, the product and the sum one after the other, and their gradients so too.

    Inference stays to the bit what it was, and so does all that is saved.
    """
    for _, layer in walk(model):
        norm = layer if isinstance(layer, keras.layers.BatchNormalization) else None
        if norm is not None and "call" not in vars(norm) and not why_unfused(norm):
            vars(norm)["call"] = types.MethodType(_fused_call, norm)  # past __setattr__, which would track the value


def _fused_call(
    norm: keras.layers.BatchNormalization, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
) -> Tensor:
    """What :func:`fuse_training` puts in the place of ``call``: batches of float32 in training as one operator."""
    x = tf.convert_to_tensor(inputs)
    if not training or not norm.trainable or mask is not None or x.dtype != tf.float32:
        return type(norm).call(norm, inputs, training=training, mask=mask)
    gamma, beta, moving_mean, moving_variance = norm_parameters(norm, "float32")
    images = x if x.shape.rank == 4 else tf.reshape(x, (-1, 1, 1, x.shape[-1]))
    fused = tf.raw_ops.FusedBatchNormV3(
        x=images, scale=gamma, offset=beta, mean=(), variance=(), epsilon=norm.epsilon, is_training=True
    )
    # The operator returns the unbiased variance, for the moving one; Keras averages the biased one, as it normalizes.
    count = tf.cast(tf.size(images) // images.shape[-1], "float32")
    variance = fused.batch_variance * (count - 1) / count
    norm.moving_mean.assign(moving_mean * norm.momentum + fused.batch_mean * (1 - norm.momentum))
    norm.moving_variance.assign(moving_variance * norm.momentum + variance * (1 - norm.momentum))
    return fused.y if images is x else tf.reshape(fused.y, tf.shape(x))
