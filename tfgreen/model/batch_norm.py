"""Statistics of batch normalization for weights that have changed since they were gathered.

Reference: M. Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", 2022, arXiv:2203.11086
(re-estimation of batch normalization).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.graph import check_built_model, walk
from tfgreen.model.rebuild import rebuild


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
