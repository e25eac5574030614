"""strip and merge_lora: leave plain Keras layers, with what chains or adapters do baked into the weights."""

from __future__ import annotations

import warnings

import keras

from tfgreen.errors import invalid_state
from tfgreen.model.copy import Copies
from tfgreen.model.paths import check_built_model, walk
from tfgreen.model.rebuild import rebuild
from tfgreen.training.shortfall import shortfall
from tfgreen.transforms.compressed import compressed_in, compressed_layers
from tfgreen.transforms.lora import adapters, merge_adapters


def strip(model: keras.Model) -> keras.Model:
    """Return a copy of ``model`` in which every transformed weight is stored as it was computed with.

    Args:
        model: A model from ``tg.prune`` or another verb, trained or not. It is not changed.

    Returns:
        A model of plain Keras layers with the same predictions, names and shapes, not compiled. Of a model that was
        trained to be quantized, activations are no longer rounded to its ranges, nor cut off at their ends.

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

    def bake(path: str, layer: keras.Layer) -> keras.Operation:
        compressed = compressed_in(layer)
        bare = layer if compressed is None else compressed.bake(baked)
        if not isinstance(bare, keras.Layer):
            return bare
        held = [sub for _, sub in compressed_layers(bare)]  # by a class of the user's, which wrapped layers itself
        if not held:
            return bare
        copies = Copies()
        for sub in held:
            copies.put(sub, sub.bake(baked))
        return copies.of(bare)

    return rebuild(model, bake)


def merge_lora(model: keras.Model) -> keras.Model:
    """Return a copy of ``model`` with the adapters of ``enable_lora`` added to the weights, which are trainable again.

    Args:
        model: Any built Keras 3 model with LoRA enabled on some layers. It is not changed.

    Returns:
        A model without adapters, of the same outputs (up to rounding), names and shapes, not compiled.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built or compressed, it has no adapters, one is on a layer whose weights Keras has
            made integers of, or a layer cannot be copied; the layer is named.

    Source: E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv:2106.09685.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> model.get_layer("out").enable_lora(2)
        >>> len(model.weights), len(tg.merge_lora(model).weights)
        (4, 2)
    """
    check_built_model(model)
    if compressed_layers(model):
        raise invalid_state(f"model '{model.name}' is compressed.", "Call tg.strip(model) first.")
    adapted = [(path, layer) for path, layer in walk(model) if getattr(layer, "lora_enabled", False)]
    integers = [path for path, layer in adapted if layer.quantization_mode]
    if integers:
        sentence = f"The adapters of {integers} are added to integers, which quantize() of Keras has made."
        raise invalid_state(sentence, "Merge them before quantize().")
    if not adapters(model):
        fix = "Enable it on a layer with layer.enable_lora(rank), or leave this out."
        raise invalid_state(f"model '{model.name}' has no LoRA adapter.", fix)
    result: keras.Model = rebuild(model, lambda path, layer: layer)
    merge_adapters(result)
    return result
