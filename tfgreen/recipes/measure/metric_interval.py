"""The interval of a metric: where it would lie on other samples of the same kind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfgreen.deploy.metrics import columns, metric_model
from tfgreen.recipes.metrics.metric import Judged, Metric
from tfgreen.reports.metric import share_interval

_GROUPS, _FEWEST = 100, 20
_CLOSE = 1e-3  # of the whole metric, beside the sum of its groups in float32


def metric_interval(
    metric: Metric, predictions: Mapping[str, Any], targets: Mapping[str, Any], value: float
) -> tuple[tuple[float, float] | None, str]:
    """The interval of 95 % of a metric's value, and how it was found; or None, and why there is none.

    A share of the samples has the interval of Wilson. Of any other metric whose state is a sum over samples, as the
    states of Keras's metrics are, it is the jackknife's: the metric without one of up to 100 groups of samples, which
    are drawn at random with one seed, again and again. The samples count as drawn independently of each other.

    Example:
        >>> metric, error = Metric("mae"), np.arange(40.0)
        >>> metric_interval(metric, {"y": error}, {"y": error * 0}, error.mean())[1]
        'interval of 95 % (jackknife over 40 groups of samples)'
    """
    parts = metric.judged(predictions, targets)
    samples = len(parts[0].targets)
    if samples < _FEWEST:
        return None, f"no interval of {samples} samples, {_FEWEST} are needed"
    groups = np.array_split(np.random.default_rng(0).permutation(samples), min(_GROUPS, samples))
    without, whole = np.zeros(len(groups)), 0.0
    for part in parts:
        model = metric_model([part.metric])
        states = _states(model, part, groups)
        total = [np.sum(state, axis=0) for state in zip(*states)]
        if metric.is_share and _counts_hits(states, total, groups):
            return share_interval(min(1.0, value), samples), "interval of 95 % (Wilson)"
        whole += part.weight * _result(model, total)
        without += part.weight * np.array([_result(model, [a - b for a, b in zip(total, state)]) for state in states])
    if not math.isclose(whole, value, rel_tol=_CLOSE, abs_tol=1e-6):
        return None, "no interval, as the metric is no sum over samples"
    if not np.isfinite(without).all() or np.ptp(without) == 0:
        return None, "no interval, as all groups of samples give the same"
    count = len(groups)
    error = math.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    half = (1.96 + 2.4 / (count - 1)) * error  # near the quantile of Student's t for 19 to 99 degrees of freedom
    low, high = value - half, value + half
    ends = (max(0.0, low), min(1.0, high)) if metric.is_share else (low, high)
    return ends, f"interval of 95 % (jackknife over {count} groups of samples)"


def _states(model: keras.Model, part: Judged, groups: list[np.ndarray]) -> list[list[np.ndarray]]:
    """The state of the metric after each group alone."""
    predictions, targets = (np.asarray(columns(_as_floats(array))) for array in (part.predictions, part.targets))
    states = []
    for rows in groups:
        model.reset_metrics()
        model.test_on_batch(predictions[rows], targets[rows])
        states.append([np.asarray(variable, "float64") for variable in _variables(model)])
    return states


def _as_floats(array: np.ndarray) -> np.ndarray:
    """Numbers of the width that ``Model.evaluate`` makes of float64."""
    return array.astype(keras.config.floatx()) if array.dtype == "float64" else array


def _variables(model: keras.Model) -> list[keras.Variable]:
    """The state of the metric that a model was compiled with, without that of its loss."""
    return [variable for metric in model.metrics if metric.name != "loss" for variable in metric.variables]


def _result(model: keras.Model, state: list[np.ndarray]) -> float:
    """The value of the metric in a state."""
    for variable, value in zip(_variables(model), state):
        variable.assign(value)
    (value,) = (value for name, value in model.get_metrics_result().items() if name != "loss")
    return float(value)


def _counts_hits(states: list[list[np.ndarray]], total: list[np.ndarray], groups: list[np.ndarray]) -> bool:
    """Whether the state is how many samples were right, and how many there were."""
    if len(total) != 2 or any(np.ndim(state) for state in total):
        return False
    return all(hits % 1 == 0 and count == len(rows) for (hits, count), rows in zip(states, groups))
