"""compress: add transforms to the weights of a model, each weight once however many layers read it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence

import keras

from tfgreen.errors import invalid_state, invalid_value, layer_subject
from tfgreen.model.batch_norm import fuse_training
from tfgreen.model.operation_layer import OperationLayer
from tfgreen.model.paths import join_path, replaceable_layers
from tfgreen.model.rebuild import rebuild
from tfgreen.model.weights import Reasons, compressible_weights
from tfgreen.transforms.base import ActivationHook, Chain, TensorTransform
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compressed import Compressed, CompressedModel, compressed_in, compressed_layers, unproject
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.ties import tied_variables


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a verb adds to the chains of a layer, by path of the weight within it, and why nothing more: of the layer
    as a whole (or ""), and of weights of it, by path."""

    transforms: Mapping[str, Sequence[TensorTransform]] = dataclasses.field(default_factory=dict)
    reason: str = ""
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def reason_of(self, weight: str) -> str:
        return self.reasons.get(weight, self.reason)


Choose = Callable[[str, keras.Layer, Mapping[str, Chain]], Choice]
Quantize = Callable[[str, keras.Operation], ActivationHook | None]
Wrap = Callable[[keras.Layer, Sequence[Chain], ActivationHook | None], Compressed]


def compress(
    model: keras.Model, choose: Choose, quantize: Quantize = lambda path, operation: None, wrap: Wrap = Compressed
) -> keras.Model:
    """Return a copy of a built model with transforms added to the chains of its weights, each at its ``order``.

    ``choose`` is called once per layer of the model with its path, the layer (bare of its chains) and the chains it
    has, by weight. A weight that several layers read gets the transforms that are chosen for the first, and none if a
    layer leaves it out. ``quantize``, called for raw operations (``x + y``) too, says where activations are rounded.
    ``wrap`` makes the compressed layer, of a subclass where it is to have more than its chains.

    Example:
        >>> import keras
        >>> from tfgreen.transforms.fake_quant import FakeQuant
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> rounded = compress(model, lambda path, layer, chains: Choice({"kernel": [FakeQuant(bits=4)]}))
        >>> rounded.get_layer("out").chains[0].transforms[0].bits
        4
    """
    choices = _choices(model, choose)
    earlier: dict[str, str] = {}
    reasons: dict[str, str] = {}

    def replace(path: str, layer: keras.Layer) -> keras.Layer:
        compressed = compressed_in(layer)
        inner, chains, activations = layer, [], None
        if compressed is not None:
            inner, chains, activations = compressed.layer, compressed.chains, compressed.activations
            earlier.update(compressed.reasons)
        transforms = {chain.weight: list(chain.transforms) for chain in chains}
        choice = choices[path]
        if choice.reason and compressible_weights(inner):  # else the table says why
            reasons[path] = choice.reason
        reasons.update({join_path(path, weight): reason for weight, reason in choice.reasons.items()})
        rounded = quantize(path, inner)
        if rounded is not None and activations is not None:
            subject = layer_subject(path, inner)
            raise invalid_state(f"{subject} is quantized already.", "Bake it first with tg.strip(model).")
        if not choice.transforms and rounded is None:
            return layer
        for weight, new in choice.transforms.items():
            transforms[weight] = sorted([*transforms.get(weight, ()), *new], key=lambda transform: transform.order)
            _check_zeros_kept(f"{layer_subject(path, inner)}, '{weight}'", transforms[weight])
        for variable in inner.variables:
            unproject(variable)
        new_chains = [Chain(weight, items) for weight, items in transforms.items()]
        return wrap(inner, new_chains, rounded or activations)

    def replace_operation(path: str, operation: keras.Operation) -> keras.Operation:
        rounded = quantize(path, operation)
        return operation if rounded is None else Compressed(OperationLayer(operation), [], rounded)

    result = rebuild(model, replace, replace_operation)
    fuse_training(result)
    for layer in (result, *(layer for _, layer in compressed_layers(result))):
        if isinstance(layer, Compressed):
            layer.reasons = {**earlier, **reasons}
    if not isinstance(result, Compressed):
        return result
    _warn_of_lost_methods(result.layer)
    return CompressedModel(result)


def _choices(model: keras.Model, choose: Choose) -> dict[str, Choice]:
    """What is chosen for each layer, by path, where the layers that share a weight have to agree."""
    choices: dict[str, Choice] = {}
    for path, layer in replaceable_layers(model):
        compressed = compressed_in(layer)
        inner, chains = (layer, []) if compressed is None else (compressed.layer, compressed.chains)
        choices[path] = choose(path, inner, {chain.weight: chain for chain in chains})
    for readers in tied_variables(model).values():
        chosen = {path: weight for path, weight in readers.items() if weight in choices.get(path, Choice()).transforms}
        others = [path for path in readers if path not in chosen]
        shared = next((choices[path].transforms[weight] for path, weight in chosen.items()), ())
        for path, weight in chosen.items():
            transforms = {**choices[path].transforms, weight: shared}
            if others:
                del transforms[weight]
            reasons = dict(choices[path].reasons)
            if others:
                reasons[weight] = _why_left_alone(others[0], readers, choices)
            choices[path] = dataclasses.replace(choices[path], transforms=transforms, reasons=reasons)
    return choices


def _why_left_alone(other: str, readers: Mapping[str, str], choices: Mapping[str, Choice]) -> str:
    if not readers[other]:
        return Reasons.READ_UNSEEN.format(other=other)
    return Reasons.SHARED.format(other=other, reason=choices[other].reason_of(readers[other]) or Reasons.NOT_COMPRESSED)


def _check_zeros_kept(subject: str, transforms: Sequence[TensorTransform]) -> None:
    loses = next((transform for transform in transforms if not transform.keeps_zeros), None)
    if loses is not None and isinstance(transforms[0], Mask):
        what = "values to share" if isinstance(loses, Codebook) else f"a {type(loses).__name__}"
        expected, received = "transforms that keep the zeros of a mask", f"{what} without zero"
        raise invalid_value(subject, expected=expected, received=received, fix="Cluster with preserve_sparsity=True.")


def _warn_of_lost_methods(model: keras.Model) -> None:
    steps = ("train_step", "test_step", "predict_step", "compute_loss")
    own = [name for name in steps if getattr(type(model), name) is not getattr(keras.Model, name)]
    if own:
        warnings.warn(
            f"model '{model.name}' ({type(model).__name__}) has {', '.join(own)} of its own, which its compressed copy "
            "does not run: fit trains the copy as Keras does. Train it in a loop of your own, with "
            "tg.UpdateCompression(model).step() after each step.",
            stacklevel=4,
        )
