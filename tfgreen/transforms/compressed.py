"""Compressed: a layer whose weights pass through chains of transforms, and whose activations may be rounded."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Mapping, Sequence

import keras

from tfgreen.errors import invalid_value, layer_subject
from tfgreen.model.internals import autocasting
from tfgreen.model.operation_layer import OperationLayer, with_signature_of
from tfgreen.model.paths import walk, weights_by_path
from tfgreen.model.rebuild import build_configs, build_from_configs
from tfgreen.transforms.base import ActivationHook, Chain, Projection, TensorTransform, serialize_shared
from tfgreen.transforms.lora import Adapter, adapters
from tfgreen.transforms.whole_batch import given_batch, kept_batch
from tfgreen.typing import PlainDict, Shape, Tensor, Tensors


@dataclasses.dataclass(frozen=True)
class ChainedWeight:
    """A weight of a layer and the chain that it passes through, together with its adapter if LoRA is enabled."""

    chain: Chain
    variable: keras.Variable
    adapter: Adapter | None = None

    @property
    def value(self) -> Tensor:
        """What the chain gets."""
        return self.variable.value if self.adapter is None else self.adapter.added_to(self.variable.value)

    def effective(self, projected: bool = False) -> Tensor:
        """What the layer computes with; ``projected`` says that an optimizer keeps the stored weight projected."""
        return self.chain.apply(self.value, projected and self.adapter is None)

    def mapping(self, projected: bool) -> list[tuple[keras.Variable, Tensor]]:
        """The values under which the layer computes with the effective weight: its adapter adds zeros to that."""
        silenced = [] if self.adapter is None else [(self.adapter.b, keras.ops.zeros_like(self.adapter.b.value))]
        return [(self.variable, self.effective(projected)), *silenced]

    def project(self) -> None:
        """Hold the stored weight to what the chain allows. One with an adapter is frozen, and only a part."""
        if self.chain.projects and self.adapter is None:
            self.variable.assign(self.chain.project(self.variable.value))

    def bake(self) -> None:
        """Store the effective weight, without chain and adapter."""
        self.variable.assign(self.effective())
        unproject(self.variable)
        if self.adapter is not None:
            self.variable.trainable = True
            self.adapter.remove()


@keras.saving.register_keras_serializable(package="tfgreen")
class Compressed(keras.layers.Layer):
    """A layer that computes with ``chain(w)`` in the place of some of its weights ``w``.

    It bears the name of the layer inside and is called as that one is. The inner layer runs in a
    ``keras.StatelessScope`` that maps each chained weight to its transformed value, so no layer class needs code of its
    own: convolutions, attention, recurrent layers and blocks of the user's all pass through here.

    ``reasons`` say why layers of the model were left as they are, by path, for ``tg.summary``: Keras saves nothing of
    the kind with a model or a plain layer, so each compressed layer holds the record of its model. ``watched`` is True
    while ``tg.UpdateCompression`` drives the transforms that have work between batches, and ``ran_training`` once the
    layer was called to be trained.
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
        self.watched = self.ran_training = False
        if activations is not None and layer.activity_regularizer is not None:
            # The hook may run the layer without its activation, or as several operations: this layer sees the output.
            self.activity_regularizer, layer.activity_regularizer = layer.activity_regularizer, None
        self.supports_masking = layer.supports_masking
        self._accepts_training = "training" in inspect.signature(layer.call).parameters
        self.trainable = layer.trainable
        # Of a layer that Keras has loaded, what its first call would build may not be there yet, but will be by
        # `build_from_config`.
        is_whole = all(sub.built for _, sub in walk(layer))
        if layer.built and (is_whole or {chain.weight for chain in self.chains} <= {*weights_by_path(layer)}):
            self._build_chains()

    def _build_chains(self) -> None:
        weights, lora = weights_by_path(self.layer), adapters(self.layer)
        adapted = {path for path, variable in weights.items() if id(variable) in lora}
        for chain in self.chains:
            if chain.weight not in weights:
                subject = layer_subject(self.name, self.layer)
                raise invalid_value(subject, expected=f"a weight of {sorted(weights)}", received=f"'{chain.weight}'")
            variable = weights[chain.weight]
            chain.build(tuple(variable.shape))
            chain.built = True
            if chain.projects and chain.weight not in adapted:  # LoRA has frozen it, and refuses a constraint
                unproject(variable)  # a layer that it is tied to may have come first
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
    def chained(self) -> list[ChainedWeight]:
        """Each chain and the weight that it transforms."""
        weights, lora = weights_by_path(self.layer), adapters(self.layer)
        return [ChainedWeight(c, weights[c.weight], lora.get(id(weights[c.weight]))) for c in self.chains]

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
        if training is True:
            self.ran_training = True
            if not self.watched and self.scheduled:
                _warn_unwatched()
        hook, norm = self.activations, isinstance(self.layer, keras.layers.BatchNormalization)
        batch = given_batch() if hook is not None and training is True else None
        given = None if hook is None or batch is None else batch.values(hook)
        run = functools.partial(self._run, args, kwargs, given)
        if training is True and norm and hook is not None and hook.freezes:
            # The frozen statistics are those that the exported file is folded with.
            outputs, values, losses = keras.ops.cond(hook.frozen(), lambda: run(False, True), lambda: run(True, True))
        else:
            outputs, values, losses = run(training)
        # BatchNorm statistics, seeds, recurrent states, and a weight that the layer sets itself (SpectralNormalization)
        variables = self._run_variables()
        for variable, value in zip(variables, values):
            if value is not None:
                variable.assign(value)
        kept = kept_batch()
        if hook is not None and kept is not None:
            after = {id(v): v.value if value is None else value for v, value in zip(variables, values)}
            kept.keep(hook, [after[id(v)] for v in hook.non_trainable_variables])
        for loss in losses:
            self.add_loss(loss)
        return outputs

    def _run_variables(self) -> list[keras.Variable]:
        return [*self.layer.variables, *(self.activations.variables if self.activations is not None else ())]

    def _run(
        self, args: tuple, kwargs: Mapping[str, object], given: list[Tensor] | None, training: bool | None,
        every: bool = False,
    ) -> tuple[Tensors, list[Tensor | None], list[Tensor]]:
        """Outputs, the new value of each variable that the call set (else None, unless ``every``), and losses."""
        # While an optimizer trains the model it keeps the stored weights projected (masked), see `Projection`. Masking
        # them again would cost two more passes over every weight and gradient.
        projected = training is True and self.watched
        mapped = {id(variable): value for weight in self.chained for variable, value in weight.mapping(projected)}
        if self.activations is not None and given is not None:
            mapped.update(zip(map(id, self.activations.non_trainable_variables), given, strict=True))
        # All variables are mapped, not only the chained ones: in an outer StatelessScope (the JAX trainer) the inner
        # layer would otherwise see their values of before that scope.
        variables = self._run_variables()
        values = [(variable, mapped.get(id(variable), variable.value)) for variable in variables]
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
        with autocasting(self.layer):
            return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args: object, **kwargs: object) -> Shape:
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs: Tensors, previous_mask: Tensors | None = None) -> Tensors:
        return self.layer.compute_mask(inputs, previous_mask)

    @property
    def stands_for(self) -> keras.Layer:
        """The layer that remains when compression is done; ``tg.profile`` counts it in the place of this one."""
        return self.layer

    def bake(self, baked: set[int]) -> keras.Operation:
        """Write every transformed weight into the inner layer and return it, free of chains and ranges.

        ``baked`` holds the ``id`` of weights that were written for a layer that they are tied to, and gets the others.
        """
        for weight in self.chained:
            if id(weight.variable) not in baked:
                weight.bake()
                baked.add(id(weight.variable))
        if self.activity_regularizer is not None:
            self.layer.activity_regularizer = self.activity_regularizer
        return self.layer.operation if isinstance(self.layer, OperationLayer) else self.layer

    def get_config(self) -> PlainDict:
        config = super().get_config()
        config["layer"] = serialize_shared(self.layer)
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

    ``call`` is the inner model's; a ``train_step`` of its own is not carried over, of which ``compress`` warns.
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


def compressed_in(layer: keras.Operation) -> Compressed | None:
    """The :class:`Compressed` layer that a layer or a whole model is, if it is one."""
    compressed = layer.compressed if isinstance(layer, CompressedModel) else layer
    return compressed if isinstance(compressed, Compressed) else None


def compressed_layers(model: keras.Layer) -> list[tuple[str, Compressed]]:
    """Every :class:`Compressed` layer of a model, with its path."""
    return [(path, layer) for path, layer in walk(model) if isinstance(layer, Compressed)]


def chained_weights(model: keras.Layer) -> list[tuple[str, Compressed, ChainedWeight]]:
    """Every weight of a model that passes through a chain, once, with the first layer that reads it and its path."""
    found: dict[int, tuple[str, Compressed, ChainedWeight]] = {}
    for path, layer in compressed_layers(model):
        for weight in layer.chained:
            found.setdefault(id(weight.variable), (path, layer, weight))
    return list(found.values())


def has_transform(model: keras.Layer, kind: type[TensorTransform]) -> bool:
    """Whether a weight of a model passes through a transform of this class."""
    chains = [chain for _, layer in compressed_layers(model) for chain in layer.chains]
    return any(isinstance(transform, kind) for chain in chains for transform in chain.transforms)


def unproject(variable: keras.Variable) -> None:
    """Leave a variable the constraint that it had before a chain."""
    if isinstance(variable.constraint, Projection):
        variable.constraint = variable.constraint.inner


def _warn_unwatched() -> None:
    # One text for all layers, so that Python shows it once; at trace time, so in the first step of the first epoch.
    warnings.warn(
        "A compressed model is being trained without its schedule: nothing updates its masks and the like, so they "
        "stay as they are. Pass callbacks=[tg.UpdateCompression()] (UpdatePruningStep() of tfgreen.compat) to fit.",
        stacklevel=2,
    )
