"""Least squares: kernels solved anew so that a model without some channels returns what the whole one does.

Source: Y. He, X. Zhang, J. Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017,
arXiv:1707.06168, which solves each kernel on what the slim layers before it return.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import keras
import numpy as np

from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.layer_calls import Around, around_calls
from tfgreen.model.paths import walk
from tfgreen.model.rebuild import rebuild
from tfgreen.surgery.channel_analysis import ChannelAnalysis
from tfgreen.surgery.channel_groups import ChannelGroup
from tfgreen.surgery.kernel_rows import KernelRows
from tfgreen.typing import Tensor

_ROWS = 30_000  # of a layer, at most
_VALUES = 6_000_000  # of all rows that a layer returns: 24 MB
_RIDGE = 1e-3  # of the mean square of a row


def solve_kernels(
    model: keras.Model,
    slim: keras.Model,
    analysis: ChannelAnalysis,
    removed: Iterable[tuple[ChannelGroup, np.ndarray]],
    samples: Mapping[str, np.ndarray],
    seed: int = 0,
) -> keras.Model:
    """A copy of ``slim`` whose kernels, from the first that lost inputs on, give on samples what those of ``model`` do.

    Every kernel is solved on what the layers before it return that are solved already, in one run of the model. What is
    no product of rows and a matrix (depthwise, grouped, recurrent), or is called more than once, stays as it is.

    Args:
        model: The model before channels were removed, with its ``analysis``.
        slim: The model without ``removed``: groups, each with the indices of its channels.
        samples: Arrays of shape (samples, ...) by input; all run at once.
    """
    solved: keras.Model = rebuild(slim, lambda path, layer: layer)
    lost: dict[tuple[str, str], dict[int, list[int]]] = {}
    for group, channels in removed:
        for edge in group.edges:
            axes = lost.setdefault((edge.layer, edge.weight), {})
            axes.setdefault(edge.axis, []).extend(edge.places[channels].ravel().tolist())
    calls = Counter(call.path for call in analysis.trace.calls)
    once = {path for path, count in calls.items() if count == 1}
    views = {path: KernelRows(layer) for path, layer in walk(model) if path in once and KernelRows.fits(layer)}
    others = {path: KernelRows(layer) for path, layer in walk(solved) if path in views}
    rng = np.random.default_rng(seed)
    places: dict[str, np.ndarray] = {}
    targets: dict[str, np.ndarray] = {}
    has_begun = False
    by_layer = {id(view.layer): path for path, view in [*views.items(), *others.items()]}

    def record(layer: keras.Layer, call: Around, /, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        nonlocal has_begun
        path = by_layer[id(layer)]
        view = views[path]
        has_begun = has_begun or (path, "kernel") in lost and _loses_inputs(view, lost[path, "kernel"])
        if has_begun:
            total, matrix, intercept = view.count(tuple(x.shape)), view.matrix(), view.intercept()
            places[path] = rng.choice(total, min(total, _ROWS, _VALUES // matrix.shape[1]), replace=False)
            rows = view.take(np.asarray(x, np.float32), places[path])
            targets[path] = rows @ matrix + (0 if intercept is None else intercept)
        return call(x, *args, **kwargs)

    def solve(layer: keras.Layer, call: Around, /, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        path = by_layer[id(layer)]
        if path in targets:
            view = others[path]
            kept = _kept_outputs(views[path], lost.get((path, "kernel"), {}))
            rows, target = view.take(np.asarray(x, np.float32), places[path]), targets.pop(path)[:, kept]
            view.assign(*ridge_regression(rows, target, view.matrix(), view.intercept()))
        return call(x, *args, **kwargs)

    spec = read_call_spec(model)
    with around_calls([view.layer for view in views.values()], record):
        call_model(model, spec, samples)
    with around_calls([view.layer for view in others.values()], solve):
        call_model(solved, spec, samples)
    return solved


def ridge_regression(
    x: np.ndarray, y: np.ndarray, matrix: np.ndarray, intercept: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The matrix, and the intercept if there is one, of the least squares of ``x @ matrix + intercept - y``.

    A small penalty on the distance from the ones passed in decides where the rows do not.

    Args:
        x: Rows of shape (n, values).
        y: Of shape (n, outputs).
    """
    x, old = x.astype(np.float64), matrix.astype(np.float64)
    if intercept is not None:
        x, old = np.concatenate([x, np.ones((len(x), 1))], 1), np.concatenate([old, intercept[None]])
    gram, cross = x.T @ x / len(x), x.T @ (y - x @ old) / len(x)
    penalty = _RIDGE * (np.trace(gram) / len(gram) or 1.0)
    change = np.linalg.solve(gram + penalty * np.eye(len(gram)), cross)
    solution = old + change
    return (solution, None) if intercept is None else (solution[:-1], solution[-1])


def _loses_inputs(view: KernelRows, lost: Mapping[int, list[int]]) -> bool:
    return any(axis in view.input_axes() for axis in lost)


def _kept_outputs(view: KernelRows, lost: Mapping[int, list[int]]) -> np.ndarray:
    """The places in the outputs of a matrix of which the slim model has lost none."""
    shape = [view.layer.kernel.shape[axis] for axis in view.output_axes()]
    kept = np.ones(shape, bool)
    for place, axis in enumerate(view.output_axes()):
        np.moveaxis(kept, place, 0)[lost.get(axis, [])] = False
    return np.flatnonzero(kept.reshape(math.prod(shape)))
