"""Strip: take off what one of TFMOT's functions put on, and leave what others did."""

from __future__ import annotations

from typing import Any

import keras

from tfgreen.compat.wrappers.clustered import ClusterWeights
from tfgreen.compat.wrappers.pruned import PruneLowMagnitude
from tfgreen.compat.wrappers.quantized import Quantized
from tfgreen.errors import InvalidValueError, invalid_state, layer_subject
from tfgreen.model.paths import check_no_keras2
from tfgreen.model.rebuild import rebuild
from tfgreen.techniques.strip import strip
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compressed import Compressed, compressed_layers, unproject
from tfgreen.transforms.mask import Mask

_WRAPPERS: dict[type[TensorTransform], type[Compressed]] = {Codebook: ClusterWeights, Mask: PruneLowMagnitude}


def stripped(value: Any, kind: type[TensorTransform]) -> Any:
    """A copy of a model, built or not, or the layer inside a wrapper, without the transforms of one kind.

    Weights are stored as those made them.

    Raises:
        ValueError: It is neither, or a layer of the user's class holds wrapped layers of several kinds.
    """
    check_no_keras2("model", value)
    if isinstance(value, Compressed):
        if not value.built:
            return value.layer if isinstance(value, _WRAPPERS[kind]) else value
        return _without(value, kind, set())
    if not isinstance(value, keras.Model):
        raise InvalidValueError(f"Expected model to be a `keras.Model` instance but got:  {type(value).__name__}")
    if not value.built and isinstance(value, keras.Sequential):
        wrapped = (Compressed, keras.Model)
        layers = [stripped(layer, kind) if isinstance(layer, wrapped) else layer for layer in value.layers]
        return keras.Sequential(layers, name=value.name)
    if all(_is_only(layer, kind) for _, layer in compressed_layers(value)):
        return strip(value)
    baked: set[int] = set()

    def swap(path: str, layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, Compressed):
            return _without(layer, kind, baked)
        if compressed_layers(layer):
            sentence = f"{layer_subject(path, layer)} holds layers that are compressed in several ways."
            raise invalid_state(sentence, "Take off all of them: tg.strip(model).")
        return layer

    return rebuild(value, swap)


def _is_only(layer: Compressed, kind: type[TensorTransform]) -> bool:
    transforms = [item for chain in layer.chains for item in chain.transforms]
    return layer.activations is None and all(isinstance(item, kind) for item in transforms)


def _without(layer: Compressed, kind: type[TensorTransform], baked: set[int]) -> keras.Layer:
    """A layer with the transforms of a kind baked into its weights; ``baked`` as in :meth:`Compressed.bake`."""
    if _is_only(layer, kind):
        return layer.bake(baked)
    chains = []
    for weight in layer.chained:
        transforms = weight.chain.transforms
        last = max((place for place, item in enumerate(transforms, 1) if isinstance(item, kind)), default=0)
        rest = [item for item in transforms if not isinstance(item, kind)]
        if last and id(weight.variable) not in baked:
            value = weight.value
            for item in transforms[:last]:
                value = item.apply(value)
            weight.variable.assign(value)
            baked.add(id(weight.variable))
        if not rest:
            unproject(weight.variable)
        chains += [Chain(weight.chain.weight, rest)] if rest else []
    if isinstance(layer, Quantized):
        config = layer._quantize_config
        return Quantized(layer.layer, chains, layer.activations, layer.reasons, name=layer.name, quantize_config=config)
    kinds = [type(item) for chain in chains for item in chain.transforms]
    cls = next((cls for each, cls in _WRAPPERS.items() if any(issubclass(found, each) for found in kinds)), Compressed)
    result = cls(layer.layer, chains, layer.activations, name=layer.name)
    result.reasons = dict(layer.reasons)
    if isinstance(layer, cls) and hasattr(layer, "config"):
        result.config = layer.config
    return result
