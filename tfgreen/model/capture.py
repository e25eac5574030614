"""Read tensors inside a model as it runs: a layer's output, or what its final activation is applied to.

No second model is built over its tensors, so nested, shared and subclassed layers are read like any other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, Union

import keras
from keras import activations, layers

from tfgreen.errors import invalid_value
from tfgreen.model.call_spec import symbolic_inputs
from tfgreen.model.internals import run_symbolically
from tfgreen.model.layer_calls import Around, around_calls, call_name, every_operation, listening
from tfgreen.model.paths import check_built_model, leaves_by_path, walk
from tfgreen.typing import Shape, Tensor, Tensors

# What is kept of an operation: what it returns, what its activation is applied to, or what a function of it and of what
# keeps a tensor finds: it returns the operation and attribute to listen to, and what stands for calls of that.
What: TypeAlias = Union[str, Callable[[keras.Layer, Callable[[Tensors], None]], tuple[tuple[keras.Layer, str], Around]]]

SOFTMAX, SIGMOID, LINEAR = "softmax", "sigmoid", "linear"

# Layers that apply `activation` last, so that its input is what the output is the activation of.
_WITH_ACTIVATION = (
    *(layers.Dense, layers.EinsumDense, layers.Activation, layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.SeparableConv1D, layers.SeparableConv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D),
)
_ACTIVATIONS = {activations.softmax: SOFTMAX, activations.sigmoid: SIGMOID, activations.linear: LINEAR}


@dataclasses.dataclass(frozen=True)
class Head:
    """What one output of a model ends in.

    ``activation`` is ``"softmax"``, ``"sigmoid"``, ``"linear"``, or ``""`` if unknown; ``operation`` returned it;
    ``shape`` is that of the output for a batch of 1; ``rounded`` says that the operation only rounds what the
    activation returned, as in a model that is trained to be quantized.
    """

    activation: str
    operation: keras.Operation | None
    shape: Shape
    rounded: bool = False


def read_heads(model: keras.Model) -> tuple[dict[str, Head], dict[int, list[Shape | None]]]:
    """What each output of a built model of any kind ends in, by name (``""`` for the only one).

    Besides, by ``id``, the shapes of what each layer or operation returned in each of its calls: of the first of
    several tensors, None where there was none.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
        >>> heads, _ = read_heads(model)
        >>> heads[""].activation, heads[""].shape
        ('softmax', (1, 2))
    """
    check_built_model(model)
    heads: dict[str, Head] = {}
    shapes: dict[int, list[Shape | None]] = {}
    calls: list[tuple[keras.Operation, Tensors]] = []  # in the order in which they end: the innermost first

    def around(operation: keras.Operation, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
        outputs = call(*args, **kwargs)
        calls.append((operation, outputs))
        return outputs

    def run(*args: Tensors, **kwargs: Tensors) -> Tensors:
        with around_calls(every_operation(model), around):
            outputs = model(*args, **kwargs, training=False)
        for operation, result in calls:
            first: Any = (result[0] if result else None) if isinstance(result, (tuple, list)) else result
            shapes.setdefault(id(operation), []).append(tuple(first.shape) if hasattr(first, "shape") else None)
        for name, tensor in outputs_by_name(model, outputs).items():
            makers = [op for op, result in calls if any(t is tensor for t in keras.tree.flatten(result))]
            heads[name] = _head(makers, tuple(tensor.shape))
        return outputs

    args, kwargs = symbolic_inputs(model)
    run_symbolically(run, *args, **kwargs)
    return heads, shapes


def outputs_by_name(model: object, outputs: Tensors) -> dict[str, Tensor]:
    """Outputs of a model by name: a dict's keys (``"head/label"`` where nested), a functional model's output names, or
    the places in a list; ``""`` for the only output."""
    flat = keras.tree.flatten(outputs)
    if len(flat) == 1:
        return {"": flat[0]}
    names = getattr(model, "output_names", None)
    if isinstance(outputs, (list, tuple)) and names and len(set(names)) == len(flat):
        return dict(zip(names, flat, strict=True))
    return dict(leaves_by_path(outputs))


def find_layer(model: keras.Model, name: str, argument: str) -> keras.Layer:
    """The layer with this path (``"encoder/conv"``), or this name where only one layer bears it.

    If there is none, or several, the ValueError lists names that are near.
    """
    by_path = dict(walk(model))
    found = [name] if name in by_path else [path for path in by_path if path.split("/")[-1] == name]
    if len(found) == 1:
        return by_path[found[0]]
    known = {path: path for path in by_path} | {path.split("/")[-1]: path for path in by_path}
    near = found or list(dict.fromkeys(known[key] for key in difflib.get_close_matches(str(name), known, 5, 0.5)))
    raise invalid_value(
        f"{argument} of model '{model.name}'",
        expected=f"the path of a layer, such as {near or list(by_path)[:8]}",
        received=f"'{name}'" + (", the name of several layers" if found else ""),
    )


class Capture:
    """Keeps what chosen operations of a model return, or apply their activation to, while :meth:`recording`.

    ``places`` gives each name an operation, and ``"output"``, ``"logits"`` or a function that says
    what is listened to and keeps from it what it likes; ``instead`` gives layers a function that
    stands for their ``call`` meanwhile, in the thread that records.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax", name="out")])
        >>> capture = Capture({"z": (model.get_layer("out"), "logits")})
        >>> with capture.recording() as kept:
        ...     probabilities = model(keras.ops.ones((1, 3)))
        >>> bool(keras.ops.all(keras.ops.softmax(kept["z"][0]) == probabilities))
        True
    """

    def __init__(
        self, places: Mapping[str, tuple[keras.Operation, What]],
        instead: Sequence[tuple[keras.Layer, Callable[..., Tensors]]] = (),
    ) -> None:
        # The replicas of a MirroredStrategy trace in threads that take turns within a step: each keeps its own.
        self._local = threading.local()
        self._names = tuple(places)
        self._arounds: dict[tuple[keras.Operation, str], Around] = {}
        self._arounds.update({(layer, "call"): _instead(function) for layer, function in instead})
        wanted: dict[tuple[keras.Operation, str], list[tuple[str, bool]]] = {}
        for name, (operation, what) in places.items():
            if not isinstance(what, str):
                target, around = what(operation, functools.partial(self._keep, name))
                self._arounds[target] = around
                continue
            activates = what == "logits" and isinstance(operation, _WITH_ACTIVATION)
            target = operation, "activation" if activates else call_name(operation)
            wanted.setdefault(target, []).append((name, what == "logits"))
        self._arounds.update({target: self._keeping(names) for target, names in wanted.items()})

    @property
    def current(self) -> dict[str, list[Tensors]] | None:
        """What the recording in this thread has kept so far, by name, one tensor per call; None outside of one."""
        return getattr(self._local, "kept", None)

    @contextlib.contextmanager
    def recording(self) -> Iterator[dict[str, list[Tensors]]]:
        """Keep tensors for the time of the block; of recordings that are nested, the inner one keeps them."""
        before = self.current
        kept: dict[str, list[Tensors]] = {name: [] for name in self._names}
        self._local.kept = kept
        try:
            # A recording around this one in the same thread listens already.
            with listening(self._arounds if before is None else {}):
                yield kept
        finally:
            self._local.kept = before

    def _keep(self, name: str, tensor: Tensors) -> None:
        if self.current is not None:
            self.current[name].append(tensor)

    def _keeping(self, names: Sequence[tuple[str, bool]]) -> Around:
        """Keep under each name what goes in, or else what comes out."""

        def around(operation: keras.Operation, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
            outputs = call(*args, **kwargs)
            if self.current is not None:
                for name, goes_in in names:
                    self.current[name].append(args[0] if goes_in else outputs)
            return outputs

        return around


def _instead(function: Callable[..., Tensors]) -> Around:
    return lambda operation, call, *args, **kwargs: function(*args, **kwargs)


def _head(makers: Sequence[keras.Operation], shape: Shape) -> Head:
    """The head of an output that these operations returned, the innermost first."""
    maker = makers[0] if makers else None
    if not getattr(maker, "only_rounds", False):
        return Head(_activation_of(maker), maker, shape)
    inner = next((op.stands_for for op in makers if hasattr(op, "stands_for")), None)
    return Head(_activation_of(inner), maker, shape, rounded=True)


def _activation_of(operation: keras.Operation | None) -> str:
    if isinstance(operation, _WITH_ACTIVATION):
        return _ACTIVATIONS.get(operation.activation or activations.linear, "")
    if isinstance(operation, layers.Softmax):
        return SOFTMAX if operation.axis in (-1, [-1], (-1,)) else ""
    if operation is not None and not isinstance(operation, keras.Layer):  # `keras.ops.softmax(x)` in a functional graph
        kind = type(operation).__name__.lower()
        return kind if kind == SIGMOID or (kind == SOFTMAX and operation.axis == -1) else ""
    return ""
