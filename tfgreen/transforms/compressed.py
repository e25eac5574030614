"""Compressed: a layer whose weights pass through chains of transforms, and whose activations may be rounded."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence

import keras

from tfgreen.errors import invalid_state, invalid_value, layer_subject
from tfgreen.model.operation_layer import OperationLayer, with_signature_of
from tfgreen.model.paths import walk, weights_by_path
from tfgreen.model.rebuild import build_configs, build_from_configs, rebuild
from tfgreen.model.weights import compressible_weights
from tfgreen.transforms.base import ActivationHook, Chain, Projection, TensorTransform
from tfgreen.transforms.mask import Mask
from tfgreen.typing import PlainDict, Shape, Tensor, Tensors


@keras.saving.register_keras_serializable(package="tfgreen")
class Compressed(keras.layers.Layer):
    """A layer that computes with ``chain(w)`` in the place of some of its weights ``w``.

    It bears the name of the layer inside and is called as that one is. The inner layer runs in a
    ``keras.StatelessScope`` that maps each chained weight to its transformed value, so no layer class needs code of its
    own: convolutions, attention, recurrent layers and blocks of the user's all pass through here.

    ``reasons`` say why layers of the model were left as they are, by path, for ``tg.summary``: Keras saves nothing of
    the kind with a model or a plain layer, so each compressed layer holds the record of its model. ``watched`` is True
    while ``tg.UpdateCompression`` drives the transforms that have work between batches.
    """

    def __new__(cls, layer: keras.Layer, *args: object, **kwargs: object) -> Compressed:
        instance = super().__new__(cls, layer, *args, **kwargs)
        # Keras reads from the signature of `call` which arguments are tensors, masks or flags: show the inner one's.
        instance.call = with_signature_of(layer, instance.call)
        return instance

    def __init__(
        self,
        layer: keras.Layer,
        chains: Sequence[Chain],
        activations: ActivationHook | None = None,
        reasons: Mapping[str, str] | None = None,
        **kwargs: object,
    ) -> None:
        # Nothing is cast here: the inner layer casts its inputs itself, and weights are transformed as stored. With the
        # inner layer's policy, Keras would hand out variables in the dtype that it computes in.
        super().__init__(**{"name": layer.name, "dtype": layer.variable_dtype, **kwargs}, autocast=False)
        self.layer = layer
        self.chains = list(chains)
        self.activations = activations
        self.reasons = dict(reasons or {})
        self.watched = False
        if activations is not None and layer.activity_regularizer is not None:
            # The hook may run the layer without its activation, or as several operations: this layer sees the output.
            self.activity_regularizer, layer.activity_regularizer = layer.activity_regularizer, None
        self.supports_masking = layer.supports_masking
        self._accepts_training = "training" in inspect.signature(layer.call).parameters
        self.trainable = layer.trainable
        if layer.built:
            self._build_chains()

    def _build_chains(self) -> None:
        weights = weights_by_path(self.layer)
        for chain in self.chains:
            if chain.weight not in weights:
                subject = layer_subject(self.name, self.layer)
                raise invalid_value(subject, expected=f"a weight of {sorted(weights)}", received=f"'{chain.weight}'")
            variable = weights[chain.weight]
            chain.build(tuple(variable.shape))
            chain.built = True
            if chain.projects:
                variable.constraint = Projection(chain, variable.constraint)
        if self.activations is not None and not self.activations.built:
            self.activations.build()
        self.built = True

    def build(self, *args: object, **kwargs: object) -> None:
        """Build the inner layer from input shapes, then the chains from its weights."""
        if not self.layer.built:
            self.layer.build(*args, **kwargs)
        self._build_chains()

    def get_build_config(self) -> PlainDict:
        return {"layer": build_configs(self.layer)}

    def build_from_config(self, config: PlainDict) -> None:
        build_from_configs(self.layer, config["layer"])
        self._build_chains()

    @property
    def chained(self) -> list[tuple[Chain, keras.Variable]]:
        """Each chain and the weight that it transforms."""
        weights = weights_by_path(self.layer)
        return [(chain, weights[chain.weight]) for chain in self.chains]

    @property
    def scheduled(self) -> bool:
        """Whether something in it has work between batches, which ``tg.UpdateCompression`` drives."""
        freezes = self.activations is not None and self.activations.freezes
        return freezes or any(transform.scheduled for chain in self.chains for transform in chain.transforms)

    def __call__(self, *args: Tensors, **kwargs: object) -> Tensors:
        if isinstance(self.layer, OperationLayer):
            args, kwargs = self.layer.arguments(args, kwargs)
        return super().__call__(*args, **kwargs)

    def call(self, *args: Tensors, training: bool | None = None, **kwargs: object) -> Tensors:
        if training is True and not self.watched and self.scheduled:
            _warn_unwatched()
        run = functools.partial(self._run, args, kwargs)
        hook, norm = self.activations, isinstance(self.layer, keras.layers.BatchNormalization)
        if training is True and norm and hook is not None and hook.freezes:
            # The frozen statistics are those that the exported file is folded with.
            outputs, values, losses = keras.ops.cond(hook.frozen(), lambda: run(False, True), lambda: run(True, True))
        else:
            outputs, values, losses = run(training)
        # BatchNorm statistics, seeds, recurrent states, and a weight that the layer sets itself (SpectralNormalization)
        for variable, value in zip(self._run_variables(), values):
            if value is not None:
                variable.assign(value)
        for loss in losses:
            self.add_loss(loss)
        return outputs

    def _run_variables(self) -> list[keras.Variable]:
        return [*self.layer.variables, *(self.activations.variables if self.activations is not None else ())]

    def _run(
        self, args: tuple, kwargs: Mapping[str, object], training: bool | None, every: bool = False
    ) -> tuple[Tensors, list[Tensor | None], list[Tensor]]:
        """Outputs, the new value of each variable that the call set (else None, unless ``every``), and losses."""
        # While an optimizer trains the model it keeps the stored weights projected (masked), see `Projection`. Masking
        # them again would cost two more passes over every weight and gradient.
        projected = training is True and self.watched
        chained = {id(weight): chain.apply(weight.value, projected) for chain, weight in self.chained}
        # All variables are mapped, not only the chained ones: in an outer StatelessScope (the JAX trainer) the inner
        # layer would otherwise see their values of before that scope.
        variables = self._run_variables()
        values = [(variable, chained.get(id(variable), variable.value)) for variable in variables]
        if self._accepts_training:
            kwargs = {**kwargs, "training": training}
        with keras.StatelessScope(state_mapping=values, collect_losses=True) as scope:
            before = [scope.get_current_value(variable) for variable in variables]
            if self.activations is None:
                outputs = self.layer(*args, **kwargs)
            else:
                outputs = self.activations.run(self, args, kwargs, bool(training))
        now = [scope.get_current_value(variable) for variable in variables]
        return outputs, [new if every or new is not old else None for new, old in zip(now, before)], list(scope.losses)

    def compute_output_spec(self, *args: Tensors, training: bool | None = None, **kwargs: object) -> Tensors:
        if self._accepts_training:
            kwargs["training"] = training
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args: object, **kwargs: object) -> Shape:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs: Tensors, previous_mask: Tensors | None = None) -> Tensors:
        return self.layer.compute_mask(inputs, previous_mask)

    @property
    def stands_for(self) -> keras.Layer:
        """The layer that remains when compression is done; ``tg.profile`` counts it in the place of this one."""
        return self.layer

    def bake(self) -> keras.Operation:
        """Write every transformed weight into the inner layer and return it, free of chains and ranges."""
        for chain, weight in self.chained:
            weight.assign(chain.apply(weight.value))
            _unproject(weight)
        if self.activity_regularizer is not None:
            self.layer.activity_regularizer = self.activity_regularizer
        return self.layer.operation if isinstance(self.layer, OperationLayer) else self.layer

    def get_config(self) -> PlainDict:
        config = super().get_config()
        config["layer"] = keras.saving.serialize_keras_object(self.layer)
        config["chains"] = [keras.saving.serialize_keras_object(chain) for chain in self.chains]
        if self.activations is not None:
            config["activations"] = keras.saving.serialize_keras_object(self.activations)
        if self.reasons:
            config["reasons"] = dict(self.reasons)
        return config

    @classmethod
    def from_config(cls, config: PlainDict) -> Compressed:
        config = dict(config)
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        chains = [keras.saving.deserialize_keras_object(chain) for chain in config.pop("chains")]
        activations = keras.saving.deserialize_keras_object(config.pop("activations", None))
        return cls(layer, chains, activations, **config)


@keras.saving.register_keras_serializable(package="tfgreen")
class CompressedModel(keras.Model):
    """A subclassed model inside one :class:`Compressed`: what a verb returns when the model is no graph of layers.

    ``call`` is the inner model's; a ``train_step`` of its own is not carried over, of which :func:`compress` warns.
    """

    def __init__(self, compressed: Compressed, **kwargs: object) -> None:
        super().__init__(**{"name": compressed.name, **kwargs})
        self.compressed = compressed
        self.built = compressed.built

    def call(self, inputs: Tensors, training: bool | None = None) -> Tensors:
        return self.compressed(inputs, training=training)

    @property
    def stands_for(self) -> keras.Layer:
        return self.compressed.layer

    def get_build_config(self) -> PlainDict:
        return {"compressed": self.compressed.get_build_config()}

    def build_from_config(self, config: PlainDict) -> None:
        self.compressed.build_from_config(config["compressed"])
        self.built = True

    def get_config(self) -> PlainDict:
        return {**super().get_config(), "compressed": keras.saving.serialize_keras_object(self.compressed)}

    @classmethod
    def from_config(cls, config: PlainDict, custom_objects: Mapping[str, object] | None = None) -> CompressedModel:
        compressed = keras.saving.deserialize_keras_object(config["compressed"], custom_objects)
        return cls(**{**config, "compressed": compressed})


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a verb adds to the chains of a layer, by path of the weight within it, and why nothing more (or "")."""

    transforms: Mapping[str, Sequence[TensorTransform]] = dataclasses.field(default_factory=dict)
    reason: str = ""


Choose = Callable[[str, keras.Layer, Mapping[str, Chain]], Choice]
Quantize = Callable[[str, keras.Operation], ActivationHook | None]


def compress(model: keras.Model, choose: Choose, quantize: Quantize = lambda path, operation: None) -> keras.Model:
    """Return a copy of a built model with transforms added to the chains of its weights, each at its ``order``.

    ``choose`` is called once per layer with its path, a copy of the layer (bare of its chains) and the chains it has,
    by weight. ``quantize``, called for raw operations (``x + y``) too, says where activations are rounded.

    Example:
        >>> import keras
        >>> from tfgreen.transforms.fake_quant import FakeQuant
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> rounded = compress(model, lambda path, layer, chains: Choice({"kernel": [FakeQuant(bits=4)]}))
        >>> rounded.get_layer("out").chains[0].transforms[0].bits
        4
    """
    earlier: dict[str, str] = {}
    reasons: dict[str, str] = {}

    def replace(path: str, layer: keras.Layer) -> keras.Layer:
        compressed = compressed_in(layer)
        inner, chains, activations = layer, [], None
        if compressed is not None:
            inner, chains, activations = compressed.layer, compressed.chains, compressed.activations
            earlier.update(compressed.reasons)
        transforms = {chain.weight: list(chain.transforms) for chain in chains}
        choice = choose(path, inner, {chain.weight: chain for chain in chains})
        if choice.reason and compressible_weights(inner):  # else the table says why
            reasons[path] = choice.reason
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
            _unproject(variable)
        new_chains = [Chain(weight, items) for weight, items in transforms.items()]
        return Compressed(inner, new_chains, rounded or activations)

    def replace_operation(path: str, operation: keras.Operation) -> keras.Operation:
        rounded = quantize(path, operation)
        return operation if rounded is None else Compressed(OperationLayer(operation), [], rounded)

    result = rebuild(model, replace, replace_operation)
    for layer in (result, *(layer for _, layer in compressed_layers(result))):
        if isinstance(layer, Compressed):
            layer.reasons = {**earlier, **reasons}
    if not isinstance(result, Compressed):
        return result
    _warn_of_lost_methods(result.layer)
    return CompressedModel(result)


def compressed_in(layer: keras.Operation) -> Compressed | None:
    """The :class:`Compressed` layer that a layer or a whole model is, if it is one."""
    compressed = layer.compressed if isinstance(layer, CompressedModel) else layer
    return compressed if isinstance(compressed, Compressed) else None


def compressed_layers(model: keras.Layer) -> list[tuple[str, Compressed]]:
    """Every :class:`Compressed` layer of a model, with its path."""
    return [(path, layer) for path, layer in walk(model) if isinstance(layer, Compressed)]


def has_transform(model: keras.Layer, kind: type[TensorTransform]) -> bool:
    """Whether a weight of a model passes through a transform of this class."""
    chains = [chain for _, layer in compressed_layers(model) for chain in layer.chains]
    return any(isinstance(transform, kind) for chain in chains for transform in chain.transforms)


def _unproject(variable: keras.Variable) -> None:
    if isinstance(variable.constraint, Projection):
        variable.constraint = variable.constraint.inner


def _check_zeros_kept(subject: str, transforms: Sequence[TensorTransform]) -> None:
    loses = next((transform for transform in transforms if not transform.keeps_zeros), None)
    if loses is not None and isinstance(transforms[0], Mask):
        expected, received = "transforms that keep the zeros of a mask", f"a {type(loses).__name__} without zero"
        raise invalid_value(subject, expected=expected, received=received, fix="Cluster with preserve_sparsity=True.")


def _warn_unwatched() -> None:
    # One text for all layers, so that Python shows it once; at trace time, so in the first step of the first epoch.
    warnings.warn(
        "A compressed model is being trained without its schedule: nothing updates its masks and the like, so they "
        "stay as they are. Pass callbacks=[tg.UpdateCompression()] to fit.",
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
