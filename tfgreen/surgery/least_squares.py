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
from tfgreen.transforms.one_shot.kernel_rows import KernelRows
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
    """A copy of ``slim`` whose kernels, from the first loss of channels on, give on samples what those of ``model`` do.

    Every kernel is solved on what the layers before it return that are solved already, in one run of the model. What is
    no product of rows and a matrix (depthwise, grouped, recurrent), or is called more than once, stays as it is.

    Args:
        model: The model before channels were removed, with its ``analysis``.
        slim: The model without ``removed``: groups, each with the indices of its channels.
        samples: Arrays of shape (samples, ...) by input; all run at once, or in batches of the size that the model
            fixes, as often as there are kernels.
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
    spec = read_call_spec(model)
    count = len(next(iter(samples.values())))
    batches = [{name: array[part] for name, array in samples.items()} for part in spec.slices(count, count)]
    number = 0  # of the batch that runs
    places: dict[tuple[str, int], np.ndarray] = {}
    targets: dict[str, list[np.ndarray]] = {}  # of each batch, of the kernels yet to be solved
    rows: dict[str, dict[int, np.ndarray]] = {}
    behind = _behind_losses([call.path for call in analysis.trace.calls], views, lost)
    by_layer = {id(view.layer): path for path, view in [*views.items(), *others.items()]}

    def record(layer: keras.Layer, call: Around, /, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        path = by_layer[id(layer)]
        view = views[path]
        if path in behind:
            total, matrix, intercept = view.count(tuple(x.shape)), view.matrix(), view.intercept()
            most = max(1, min(_ROWS, _VALUES // matrix.shape[1]) // len(batches))
            places[path, number] = rng.choice(total, min(total, most), replace=False)
            taken = view.take(np.asarray(x, np.float32), places[path, number])
            targets.setdefault(path, []).append(taken @ matrix + (0 if intercept is None else intercept))
        return call(x, *args, **kwargs)

    def solve(layer: keras.Layer, call: Around, /, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        path = by_layer[id(layer)]
        if path == next(iter(targets), None):  # all before it are solved
            view, found = others[path], rows.setdefault(path, {})
            found[number] = view.take(np.asarray(x, np.float32), places[path, number])
            if len(found) == len(batches):
                kept = _kept_outputs(views[path], lost.get((path, "kernel"), {}))
                x_all, y_all = (np.concatenate(parts) for parts in ([found[k] for k in sorted(found)], targets[path]))
                view.assign(*ridge_regression(x_all, y_all[:, kept], view.matrix(), view.intercept()))
                del targets[path], rows[path]
        return call(x, *args, **kwargs)

    with around_calls([view.layer for view in views.values()], record):
        for number, batch in enumerate(batches):
            call_model(model, spec, batch)
    with around_calls([view.layer for view in others.values()], solve):
        for _ in list(targets):
            for number, batch in enumerate(batches if targets else ()):
                call_model(solved, spec, batch)
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


def _behind_losses(
    paths: list[str], views: Mapping[str, KernelRows], lost: Mapping[tuple[str, str], Mapping[int, list[int]]]
) -> set[str]:
    """Of the layers that are called, in that order, those from the first on that channels are lost to or in."""
    layers = {layer for layer, _ in lost}
    inside = [path in layers or any(layer.startswith(f"{path}/") for layer in layers) for path in paths]
    first = inside.index(True) if True in inside else len(paths)
    view = views.get(paths[first]) if first < len(paths) else None
    if view is not None and not set(lost.get((paths[first], "kernel"), ())) & set(view.input_axes()):
        first += 1  # it has lost outputs alone
    return set(paths[first:])


def _kept_outputs(view: KernelRows, lost: Mapping[int, list[int]]) -> np.ndarray:
    """The places in the outputs of a matrix of which the slim model has lost none."""
    shape = [view.layer.kernel.shape[axis] for axis in view.output_axes()]
    kept = np.ones(shape, bool)
    for place, axis in enumerate(view.output_axes()):
        np.moveaxis(kept, place, 0)[lost.get(axis, [])] = False
    return np.flatnonzero(kept.reshape(math.prod(shape)))
