"""TensorTransform: a function of one weight. Chain: several of them, in order."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import keras

from tfgreen.typing import PlainDict, Shape, Tensor, Tensors

if TYPE_CHECKING:
    from tfgreen.transforms.compressed import Compressed


_HALF = ("float16", "bfloat16")


class TensorTransform(keras.layers.Layer):
    """Base of everything that stands between a stored weight and the weight a layer computes with.

    A subclass is registered with Keras, creates its variables in ``build(shape)``, and overrides

    - ``apply(weight)``: weight -> effective weight, inside the graph. Shapes and dtype are kept.
    - ``project(weight)``: what the optimizer may leave in the stored weight after its step (default: anything).
      Set ``projects`` to True when it is overridden.
    - ``due(last_step, step)`` and ``update_together(transforms, weights, names, step)``: work between batches, outside
      the graph, such as ranking the weights. ``last_step`` and ``step`` count finished batches; ``last_step`` is -1
      before the first. Transforms of equal ``group`` are updated in one call, those whose group is None alone.

    It is a Keras layer only so that Keras saves and loads its variables and config; it is never called as one. A
    transform with work between batches sets ``scheduled`` and gets a variable ``step``: the batches it has seen.
    ``order`` is its place in a chain, whatever order the verbs are called in: zeros (0), then values that weights share
    (1), then integers (2, the default). ``keeps_zeros`` says whether a zero that comes in leaves as one; ``note`` is
    for ``tg.summary``.

    Example:
        >>> class Clip(TensorTransform):
        ...     def apply(self, weight):
        ...         return keras.ops.clip(weight, -1.0, 1.0)
        >>> float(Clip().apply(keras.ops.convert_to_tensor(3.0)))
        1.0
    """

    scheduled = False
    projects = False
    order = 2
    keeps_zeros = True
    note = ""
    _settings: tuple[str, ...] = ()  # arguments of the constructor, for get_config

    def __init__(self, **kwargs: object) -> None:
        # A weight is transformed in the dtype it is stored in, whatever the layer computes in.
        super().__init__(autocast=False, **{"dtype": "float32", **kwargs})

    def build(self, shape: tuple[int, ...]) -> None:
        """Create the variables for a weight of this shape."""
        if self.scheduled:
            self.step = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="step")

    def apply(self, weight: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must implement apply(weight).")

    def project(self, weight: Tensor) -> Tensor:
        return weight

    def get_config(self) -> PlainDict:
        return {**super().get_config(), **{name: getattr(self, name) for name in self._settings}}

    def due(self, last_step: int, step: int) -> bool:
        return False

    @property
    def group(self) -> Hashable:
        return None

    @classmethod
    def update_together(
        cls, transforms: Sequence[TensorTransform], weights: Sequence[Tensor], names: Sequence[str], step: int
    ) -> None:
        """Recompute the variables of one transform, or of all in a group, from the weight that each gets.

        ``names`` are the layer and weight of each, for errors; ``step`` is the number of finished batches.
        """


@keras.saving.register_keras_serializable(package="tfgreen")
class Chain(keras.layers.Layer):
    """The transforms of one weight, applied in order; ``weight`` is its path within its layer (``"kernel"``)."""

    def __init__(self, weight: str, transforms: Sequence[TensorTransform], **kwargs: object) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.weight = weight
        self.transforms = list(transforms)

    def build(self, shape: tuple[int, ...]) -> None:
        for transform in self.transforms:
            if not transform.built:  # one that was trained in an earlier chain keeps its variables
                transform.build(shape)

    def apply(self, weight: Tensor, projected: bool = False) -> Tensor:
        """Transform a weight; what its projection has done already (``projected``) is not done again.

        One of half precision is computed with in float32, in which scales and codebooks are.
        """
        dtype = keras.backend.standardize_dtype(weight.dtype)
        weight = keras.ops.cast(weight, "float32") if dtype in _HALF else weight
        for transform in self.transforms:
            if not (projected and transform.projects):
                weight = transform.apply(weight)
        return keras.ops.cast(weight, dtype) if dtype in _HALF else weight

    def project(self, weight: Tensor) -> Tensor:
        for transform in self.transforms:
            weight = transform.project(weight)
        return weight

    @property
    def projects(self) -> bool:
        return any(transform.projects for transform in self.transforms)

    def get_config(self) -> PlainDict:
        transforms = [serialize_shared(transform) for transform in self.transforms]
        return {**super().get_config(), "weight": self.weight, "transforms": transforms}

    @classmethod
    def from_config(cls, config: PlainDict) -> Chain:
        transforms = [keras.saving.deserialize_keras_object(transform) for transform in config["transforms"]]
        return cls(**{**config, "transforms": transforms})


def serialize_shared(layer: keras.Layer) -> PlainDict:
    """The config of a layer that another layer may hold too, so that Keras loads both with one and the same.

    Keras gives the second config the number of the first, but loses it in the first where that is part of another.
    """
    config = keras.saving.serialize_keras_object(layer)
    if type(layer).build is keras.Layer.build:  # Keras would take it for built, without weights in its sublayers
        config.pop("build_config", None)
    return {**config, "config": _accepted(type(layer), config["config"]), "shared_object_id": id(layer)}


def _accepted(cls: type[keras.Layer], config: PlainDict) -> PlainDict:
    """A config without what the constructor refuses: a class that nobody loads by itself (KerasHub has one) may say
    more than that takes."""
    reads_itself = not cls.from_config.__func__.__module__.startswith("keras.")
    if issubclass(cls, keras.Model) or cls.__module__.startswith("keras.") or reads_itself:
        return config
    known: set[str] = set()
    for base in cls.__mro__:
        own = vars(base).get("__init__")
        parameters = {} if own is None else inspect.signature(own).parameters
        known.update(parameters)
        if base is keras.Layer or (parameters and not _takes_any(parameters)):
            break
    kept = {name: value for name, value in config.items() if name in known}
    if kept == config or _makes(cls, config) or not _makes(cls, kept):
        return config
    return kept


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


def _makes(cls: type[keras.Layer], config: PlainDict) -> bool:
    try:
        cls.from_config(copy.deepcopy(config))
    except Exception:  # noqa: B902 - a class of the user's may raise anything
        return False
    return True


class ActivationHook(keras.layers.Layer):
    """Base of what a compressed layer runs through to change its activations; as a transform it is never called."""

    def build(self, input_shape: Shape | None = None) -> None:
        """Create the variables."""
        self.built = True

    @property
    def freezes(self) -> bool:
        """Whether something in it stays as it is from some training step on, so that it has to count them."""
        return False

    def frozen(self) -> Tensor | bool:
        """A bool tensor: whether it stays as it is by now."""
        return False

    def run(self, compressed: Compressed, args: tuple, kwargs: Mapping[str, object], training: bool) -> Tensors:
        """Call ``compressed.layer(*args, **kwargs)`` and return what the compressed layer returns."""
        raise NotImplementedError(f"{type(self).__name__} must implement run(compressed, args, kwargs, training).")


class Projection(keras.constraints.Constraint):
    """A Keras constraint that applies the layer's own constraint, then the chain's projections.

    Optimizers apply it inside the graph after every step, so the stored weight, and every checkpoint, keeps its zeros.
    """

    def __init__(self, chain: Chain, inner: keras.constraints.Constraint | None = None) -> None:
        self.chain = chain
        self.inner = inner

    def __call__(self, weight: Tensor) -> Tensor:
        if self.inner is not None:
            weight = self.inner(weight)
        return self.chain.project(weight)
