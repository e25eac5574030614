"""strip: bake every chain into the weights, leaving plain Keras layers."""

from __future__ import annotations

import warnings

import keras

from tfgreen.model.rebuild import rebuild
from tfgreen.training.shortfall import shortfall
from tfgreen.transforms.compressed import compressed_in, compressed_layers


def strip(model: keras.Model) -> keras.Model:
    """Return a copy of ``model`` in which every transformed weight is stored as it was computed with.

    Args:
        model: A model from ``tg.prune`` or another verb, trained or not. It is not changed.

    Returns:
        A model of plain Keras layers with the same predictions, names and shapes, not compiled.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built, or a layer cannot be copied; the layer is named.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> pruned = tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0)))
        >>> type(tg.strip(pruned).get_layer("out")).__name__
        'Dense'
    """

    compressed = [layer for _, layer in compressed_layers(model)] if isinstance(model, keras.Model) else []
    if any(layer.ran_training for layer in compressed) and (text := shortfall(model)):
        warnings.warn(f"{text} The stripped model keeps what they hold.", stacklevel=2)
    baked: set[int] = set()

    def bake(path: str, layer: keras.Layer) -> keras.Layer:
        compressed = compressed_in(layer)
        return layer if compressed is None else compressed.bake(baked)

    return rebuild(model, bake)
