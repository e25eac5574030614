"""Trial: whether a model without some channels does what it does with them at zero, and which channels it misses.

Two questions, two answers. Code of the user's may compute with the number of channels (``x / x.shape[-1]``): it is
traced with all and with few of them, and must call the same operations with the same numbers. And whatever else may be
wrong shows in the outputs of the smaller model, on samples made up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np

from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.paths import own_weights, walk
from tfgreen.model.samples import random_samples
from tfgreen.structure import CallSpec
from tfgreen.surgery.rules.table import has_rule
from tfgreen.surgery.trace import Call, Trace, first_line, trace

if TYPE_CHECKING:
    from tfgreen.surgery.channel_analysis import ChannelAnalysis
    from tfgreen.surgery.channel_groups import ChannelGroup

T = TypeVar("T")
Removed = list[tuple["ChannelGroup", np.ndarray]]

_FEW = 3  # channels left: a number that no code takes for 1, or for a power of 2
_OPEN = (32, 7)  # sizes to try for axes that inputs leave open
_SAMPLES = 2
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2  # of the largest output; where half precision is computed in
_NOISE = 1e-6  # of the weights: a model whose outputs move as far with it has no digits to compare


def culprits(parts: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> Iterator[T]:
    """Those of several parts with which something fails, by halves: alone, or all of those that fail only together.

    Example:
        >>> list(culprits("abcdefg", lambda some: "b" in some or "f" in some))
        ['b', 'f']
    """
    if fails(parts):
        middle = len(parts) // 2
        found = [*culprits(parts[:middle], fails), *culprits(parts[middle:], fails)] if middle else []
        yield from found or parts


def width_readers(
    model: keras.Model, analysis: ChannelAnalysis, groups: Iterable[ChannelGroup],
    shrink: Callable[[Removed], keras.Model],
) -> list[tuple[ChannelGroup, str]]:
    """The groups with whose number of channels the model's own code computes, each with the reason why they stay."""
    if not analysis.trace.code:
        return []
    expected = {False: analysis.trace, True: _traced(model, training=True)}
    again = _traced(model, training=False)  # what code draws at random is not compared
    compares_values = again is not None and _difference(analysis.trace, again, True) is None
    reasons: dict[int, str] = {}

    def fails(some: Sequence[tuple[ChannelGroup, np.ndarray]]) -> bool:
        try:
            slim = shrink(list(some))
            for training, whole in expected.items():
                values = compares_values and not training
                path = None if whole is None else _difference(whole, trace(slim, has_rule, training), values)
                if path is not None:
                    return blame(some, f"{analysis.trace.code.get(path, 'the model')} computes with their number")
        except Exception as error:  # noqa: B902 - code of the user's may raise anything
            return blame(some, f"without some the model fails: {first_line(error)}")
        return False

    def blame(some: Sequence[tuple[ChannelGroup, np.ndarray]], reason: str) -> bool:
        reasons.update((id(group), reason) for group, _ in some)
        return True

    few = [(group, channels) for group in groups if len(channels := _most(group))]
    return [(group, reasons[id(group)]) for group, _ in culprits(few, fails)]


def _traced(model: keras.Model, training: bool) -> Trace | None:
    try:
        return trace(model, has_rule, training)
    except Exception:  # noqa: B902 - a model that is not made to be trained
        return None


def _most(group: ChannelGroup) -> np.ndarray:
    """All channels of a group that can go, but for a few."""
    free = np.flatnonzero([not reason for reason in group.fixed])
    left = _FEW if len(free) > _FEW else 1
    return free[left:] if len(free) == group.size else free[:-1] if len(free) > 1 else free


def _difference(whole: Trace, slim: Trace, values: bool) -> str | None:
    """The path of the layer whose code first does something else, or fails, without channels."""
    for path in slim.unseen:
        if path not in whole.unseen:
            return path
    for a, b in zip(whole.calls, slim.calls):
        if _signature(a, values) != _signature(b, values):
            return a.owner or b.owner or ""
    return "" if len(whole.calls) != len(slim.calls) else None


def _signature(call: Call, values: bool) -> tuple[object, ...]:
    """What a call is besides its tensors: its operation and numbers; those of constant tensors where ``values``."""
    operation: Any = call.operation
    is_layer = isinstance(operation, keras.Layer)
    if call.in_graph and not is_layer:  # its settings may change with the channels
        return (type(operation).__name__,)
    given = [leaf for leaf in keras.tree.flatten((call.args, call.kwargs)) if not isinstance(leaf, keras.KerasTensor)]
    if not is_layer:
        given += [value for name, value in sorted(vars(operation).items()) if name != "name" and name[:1] != "_"]
    return (type(operation).__name__, *(_plain(value, values) for value in given))


def _plain(value: Any, values: bool) -> object:
    if isinstance(value, (int, float, str, slice, tuple, list, type(None))):
        return repr(value)
    if hasattr(value, "shape") and not isinstance(value, keras.Variable):  # whose axes are followed
        return (tuple(value.shape), np.asarray(value).tobytes()) if values else len(value.shape)
    return ""


def compare_outputs(
    model: keras.Model, slim: keras.Model, removed: Iterable[tuple[ChannelGroup, np.ndarray]],
    samples: Mapping[str, np.ndarray] | None = None,
) -> tuple[float, str]:
    """How far a smaller model is from the model with the same channels at zero, as a share of the largest output.

    It is the error of the better of two samples: the first of those given, or made up. 0 where that is in the rounding.

    Returns:
        The error, and why it is not known, or "": the model cannot be run on any samples, or rounding moves its outputs
        as far.
    """
    spec = read_call_spec(model)
    layers = {"": model, **dict(walk(model))}
    zeroed: dict[int, tuple[keras.Variable, np.ndarray]] = {}
    for group, channels in removed:
        for edge in group.edges:
            variable = own_weights(layers[edge.layer])[edge.weight]
            _, value = zeroed.setdefault(id(variable), (variable, variable.numpy().copy()))
            np.moveaxis(value, edge.axis, 0)[edge.places[channels].ravel()] = 0
    why = "it returns NaN or infinite values on inputs at random" if samples is None else "it returns NaN or infinity"
    for size in _OPEN:
        try:
            count = spec.batch or _SAMPLES
            x = random_samples(spec, count, size) if samples is None else {n: a[:count] for n, a in samples.items()}
            expected = _outputs(model, spec, x, [*zeroed.values()])
        except Exception as failure:  # noqa: B902 - it takes no such inputs: code and layers may raise anything
            why = f"no inputs at random fit it ({first_line(failure)})" if samples is None else first_line(failure)
            continue
        if any(np.isfinite(tensor).all() for tensor in expected):
            break
    else:
        return 0.0, why
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in layers.values())
    tolerance = _HALF_TOLERANCE if half else _TOLERANCE
    error = _distance(expected, _outputs(slim, spec, x, []))
    if error <= tolerance:
        return 0.0, ""
    rng = np.random.default_rng(0)
    floats = [variable for variable in model.weights if keras.backend.is_float_dtype(variable.dtype)]
    noise = {id(v): 1 + _NOISE * rng.choice([-1, 1], v.shape) for v in floats}
    noisy = [(v, (zeroed[id(v)][1] if id(v) in zeroed else v.numpy()) * noise[id(v)]) for v in floats]
    if 10 * _distance(expected, _outputs(model, spec, x, noisy)) > error:
        return 0.0, "rounding moves its outputs as far as they differ"
    return error, ""


def _outputs(
    model: keras.Model, spec: CallSpec, x: Mapping[str, np.ndarray], state: list[tuple[keras.Variable, Any]]
) -> list[np.ndarray]:
    """The outputs with other numbers in some weights; whatever state the model keeps stays as it is."""
    values = {name: keras.ops.convert_to_tensor(array) for name, array in x.items()}
    mapping = [(variable, keras.ops.convert_to_tensor(value, variable.dtype)) for variable, value in state]
    with keras.StatelessScope(state_mapping=mapping):
        return [np.asarray(tensor, "float64") for tensor in keras.tree.flatten(call_model(model, spec, values))]


def _distance(expected: list[np.ndarray], got: list[np.ndarray]) -> float:
    worst = 0.0
    for one, other in zip(expected, got, strict=True):
        if one.shape != other.shape:
            return float("inf")
        if not np.isfinite(one).all():
            continue
        rows = np.nan_to_num(np.abs(one - other), nan=np.inf).reshape(len(one) if one.ndim else 1, -1)
        if rows.size:
            worst = max(worst, float(rows.max(1).min()) / max(float(np.abs(one).max()), 1e-6))
    return worst
