"""recalibrate_batch_norm: batch statistics for weights that have changed since the statistics were gathered.

Reference: M. Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", 2022, arXiv:2203.11086
(re-estimation of batch normalization).
"""

from __future__ import annotations

import keras

from tfgreen.checks import check_integer
from tfgreen.errors import invalid_value
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.paths import check_built_model, walk
from tfgreen.model.rebuild import rebuild
from tfgreen.model.samples import comes_in_batches, sample_batches
from tfgreen.typing import Samples


def recalibrate_batch_norm(model: keras.Model, calibration_data: Samples, batch_size: int = 128) -> keras.Model:
    """Return a copy of ``model`` whose BatchNormalization layers hold the mean and variance of ``calibration_data``.

    A batch normalization follows the statistics of its inputs slowly (by 1 % per batch with the usual momentum). After
    a short training of changed weights, such as clustered ones, they are still partly those of the weights before. Here
    they become the plain average over the batches of data, which run forward only; no weight is trained.

    Args:
        model: A built model, usually from ``tg.strip``. It is not changed.
        calibration_data: A few thousand training samples: arrays of shape (samples, ...) as the model takes them, or
            batches of these (a ``tf.data.Dataset``, a ``PyDataset``, a generator), with targets or without.
        batch_size: Samples in a batch that is cut from arrays. A last batch that is smaller than the first is left out.

    Returns:
        The copy, not compiled; without batch normalization an equal one.

    Raises:
        TypeError: ``model`` is no ``keras.Model``, or the data is of another form or holds no numbers.
        ValueError: The model is not built, the data does not fit it, or there is not one whole batch.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization(name="norm")])
        >>> data = np.random.default_rng(0).normal(3.0, 1.0, (256, 2)).astype("float32")
        >>> np.round(tg.recalibrate_batch_norm(model, data).get_layer("norm").moving_mean.numpy()).tolist()
        [3.0, 3.0]
    """
    check_built_model(model)
    check_integer("batch_size", batch_size, minimum=1)
    spec = read_call_spec(model)
    batch_size = spec.batch or batch_size
    result = rebuild(model, lambda path, layer: layer)
    norms = [layer for _, layer in walk(result) if isinstance(layer, keras.layers.BatchNormalization)]
    settings = [(norm, norm.momentum, norm.trainable) for norm in norms]
    for norm in norms:
        norm.trainable = True  # a frozen one would not look at the data
    whole = 0 if comes_in_batches(calibration_data, spec) else batch_size
    count = 0
    for batch in sample_batches(calibration_data, spec, batch_size):
        size = len(next(iter(batch.values())))
        whole = whole or size
        if size < whole:
            if not count:
                expected, fix = f"at least one batch of {whole} samples", "Pass more, or a smaller batch_size."
                raise invalid_value("calibration_data", expected=expected, received=size, fix=fix)
            continue
        for norm in norms:
            norm.momentum = count / (count + 1)  # which makes the moving average a plain one
        if norms:
            call_model(result, spec, batch, training=True)
        count += 1
    for norm, momentum, trainable in settings:
        norm.momentum, norm.trainable = momentum, trainable
    return result
