"""Compressed: a layer whose weights pass through chains of transforms. ``compress`` puts it into a model."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfgreen.errors import invalid_value, layer_subject
from tfgreen.model.graph import build_configs, build_from_configs, walk, weights_by_path
from tfgreen.model.rebuild import rebuild
from tfgreen.transforms.base import Chain, Projection, TensorTransform


@keras.saving.register_keras_serializable(package="tfgreen")
class Compressed(keras.layers.Layer):
    """A layer that computes with ``chain(w)`` in the place of some of its weights ``w``.

    It bears the name of the layer inside and is called as that one is. The inner layer runs in a
    ``keras.StatelessScope`` that maps each chained weight to its transformed value, so no layer class needs code of its
    own: convolutions, attention, recurrent layers and blocks of the user's all pass through here.

    Args:
        layer: Any layer or subclassed model.
        chains: One :class:`Chain` for each weight to be transformed.

    Attributes:
        layer: The inner layer; its weights are the stored ones.
        chains: The chains.
        watched: True while something (``tg.UpdateCompression``) drives the transforms that have work between batches.
    """

    def __new__(cls, layer: keras.Layer, *args: Any, **kwargs: Any) -> Compressed:
        instance = super().__new__(cls, layer, *args, **kwargs)
        # Keras reads from the signature of `call` which arguments are tensors, masks or flags: show the inner one's.
        instance.call = _with_signature_of(layer, instance.call)
        return instance

    def __init__(self, layer: keras.Layer, chains: Sequence[Chain], **kwargs: Any) -> None:
        # Nothing is cast here: the inner layer casts its inputs itself, and weights are transformed as stored.
        super().__init__(**{"name": layer.name, "dtype": layer.dtype_policy, **kwargs}, autocast=False)
        self.layer = layer
        self.chains = list(chains)
        self.watched = False
        self.supports_masking = layer.supports_masking
        self._accepts_training = "training" in inspect.signature(layer.call).parameters
        self.trainable = layer.trainable
        if layer.built:
            self._build_chains()

    def _build_chains(self) -> None:
        weights = weights_by_path(self.layer)
        for chain in self.chains:
            if chain.weight not in weights:
                raise invalid_value(
                    layer_subject(self.name, self.layer),
                    expected=f"a weight of {sorted(weights)}",
                    received=f"'{chain.weight}'",
                )
            variable = weights[chain.weight]
            chain.build(tuple(variable.shape))
            chain.built = True
            if chain.projects:
                variable.constraint = Projection(chain, variable.constraint)
        self.built = True

    def build(self, *args: Any, **kwargs: Any) -> None:
        """Build the inner layer from input shapes, then the chains from its weights."""
        if not self.layer.built:
            self.layer.build(*args, **kwargs)
        self._build_chains()

    def get_build_config(self) -> dict[str, Any]:
        return {"layer": build_configs(self.layer)}

    def build_from_config(self, config: dict[str, Any]) -> None:
        build_from_configs(self.layer, config["layer"])
        self._build_chains()

    def call(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        if training is True and not self.watched and any(t.scheduled for c in self.chains for t in c.transforms):
            _warn_unwatched()
        if self._accepts_training:
            kwargs["training"] = training
        weights = weights_by_path(self.layer)
        # While an optimizer trains the model it keeps the stored weights projected (masked), see `Projection`. Masking
        # them again would cost two more passes over every weight and gradient.
        projected = training is True and self.watched
        chained = {
            id(weights[chain.weight]): chain.apply(weights[chain.weight].value, projected) for chain in self.chains
        }
        # All variables are mapped, not only the chained ones: in an outer StatelessScope (the JAX trainer) the inner
        # layer would otherwise see their values of before that scope.
        variables = self.layer.variables
        values = [(variable, chained.get(id(variable), variable.value)) for variable in variables]
        with keras.StatelessScope(state_mapping=values, collect_losses=True) as scope:
            before = [scope.get_current_value(variable) for variable in variables]
            outputs = self.layer(*args, **kwargs)
        # BatchNorm statistics, seeds, recurrent states, and a weight that the layer sets itself (SpectralNormalization)
        for variable, value in zip(variables, before):
            now = scope.get_current_value(variable)
            if now is not value:
                variable.assign(now)
        for loss in scope.losses:
            self.add_loss(loss)
        return outputs

    def compute_output_spec(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        if self._accepts_training:
            kwargs["training"] = training
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    @property
    def stands_for(self) -> keras.Layer:
        """The layer that remains when compression is done; ``tg.profile`` counts it in the place of this one."""
        return self.layer

    def bake(self) -> keras.Layer:
        """Write every transformed weight into the inner layer and return it, free of chains."""
        weights = weights_by_path(self.layer)
        for chain in self.chains:
            variable = weights[chain.weight]
            variable.assign(chain.apply(variable.value))
            if isinstance(variable.constraint, Projection):
                variable.constraint = variable.constraint.inner
        return self.layer

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config["layer"] = keras.saving.serialize_keras_object(self.layer)
        config["chains"] = [keras.saving.serialize_keras_object(chain) for chain in self.chains]
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Compressed:
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        chains = [keras.saving.deserialize_keras_object(chain) for chain in config.pop("chains")]
        return cls(layer, chains, **config)


@keras.saving.register_keras_serializable(package="tfgreen")
class CompressedModel(keras.Model):
    """A subclassed model inside one :class:`Compressed`: what a verb returns when the model is no graph of layers.

    ``call`` is the inner model's; a ``train_step`` of its own is not carried over, of which :func:`compress` warns.
    """

    def __init__(self, compressed: Compressed, **kwargs: Any) -> None:
        super().__init__(**{"name": compressed.name, **kwargs})
        self.compressed = compressed
        self.built = compressed.built

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.compressed(inputs, training=training)

    @property
    def stands_for(self) -> keras.Layer:
        """As :attr:`Compressed.stands_for`."""
        return self.compressed.layer

    def get_build_config(self) -> dict[str, Any]:
        return {"compressed": self.compressed.get_build_config()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        self.compressed.build_from_config(config["compressed"])
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "compressed": keras.saving.serialize_keras_object(self.compressed)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> CompressedModel:
        compressed = keras.saving.deserialize_keras_object(config["compressed"], custom_objects)
        return cls(**{**config, "compressed": compressed})


Choose = Callable[[str, keras.Layer, Mapping[str, Chain]], Mapping[str, Sequence[TensorTransform]]]


def compress(model: keras.Model, choose: Choose) -> keras.Model:
    """Return a copy of ``model`` with transforms appended to the chains of its weights.

    Args:
        model: A built model, which may hold :class:`Compressed` layers already: their chains are continued.
        choose: Called once per layer with its path, a copy of the layer (bare of its chains) and the chains it has, by
            weight. Returns the transforms to append, by path of the weight within the layer; an empty mapping leaves
            the layer as it is.

    Raises:
        TypeError, ValueError: As :func:`tfgreen.model.rebuild.rebuild`.

    Example:
        >>> import keras
        >>> from tfgreen.transforms.fake_quant import FakeQuant
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> rounded = compress(model, lambda path, layer, chains: {"kernel": [FakeQuant(bits=4)]})
        >>> rounded.get_layer("out").chains[0].transforms[0].bits
        4
    """

    def replace(path: str, layer: keras.Layer) -> keras.Layer:
        compressed = layer.compressed if isinstance(layer, CompressedModel) else layer
        inner, chains = (compressed.layer, compressed.chains) if isinstance(compressed, Compressed) else (layer, [])
        transforms = {chain.weight: list(chain.transforms) for chain in chains}
        additions = choose(path, inner, {chain.weight: chain for chain in chains})
        if not additions:
            return layer
        for weight, new in additions.items():
            transforms[weight] = [*transforms.get(weight, ()), *new]
        for variable in inner.variables:
            if isinstance(variable.constraint, Projection):
                variable.constraint = variable.constraint.inner
        return Compressed(inner, [Chain(weight, items) for weight, items in transforms.items()])

    result = rebuild(model, replace)
    if not isinstance(result, Compressed):
        return result
    _warn_of_lost_methods(result.layer)
    return CompressedModel(result)


def compressed_layers(model: keras.Layer) -> list[tuple[str, Compressed]]:
    """Every :class:`Compressed` layer of a model, with its path."""
    return [(path, layer) for path, layer in walk(model) if isinstance(layer, Compressed)]


def _with_signature_of(layer: keras.Layer, call: Callable) -> Callable:
    @functools.wraps(layer.call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    signature = inspect.signature(layer.call)
    if "training" not in signature.parameters:
        training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
        parameters = list(signature.parameters.values())
        after = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
        parameters = [p for p in parameters if p not in after] + [training] + after
        signature = signature.replace(parameters=parameters)
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    return wrapper


def _warn_unwatched() -> None:
    # One text for all layers, so that Python shows it once; at trace time, so in the first step of the first epoch.
    warnings.warn(
        "A pruned model is being trained without its schedule: nothing updates the masks, so they stay as they are. "
        "Pass callbacks=[tg.UpdateCompression()] to fit.",
        stacklevel=2,
    )


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
