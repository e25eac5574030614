"""Histograms of weights before and after compression, as curves of a report."""

from __future__ import annotations

import keras
import numpy as np

from tfgreen.errors import invalid_value
from tfgreen.model.graph import check_built_model, weights_by_path
from tfgreen.recipes.report import Curve
from tfgreen.techniques.strip import strip


def weight_histograms(before: keras.Model, after: keras.Model, bins: int = 60) -> tuple[Curve, ...]:
    """Draw how the values of each weight are spread, before and after: the zeros of pruning, the peaks of clustering.

    Args:
        before: A built model.
        after: What verbs of tfgreen made of it, trained or not, stripped or not.
        bins: Intervals of equal width over the values of both, at least 2.

    Returns:
        A curve for each weight of rank 2 or more whose values differ: value against share of the weights.
        ``RunReport(curves=...)`` shows them, and :func:`tfgreen.recipes.plots.lines` draws one.

    Raises:
        TypeError: One is no ``keras.Model``.
        ValueError: One is not built, ``bins`` is below 2, or the models share no weight.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> clustered = tg.cluster(model, tg.ClusterConfig(number_of_clusters=3))
        >>> [curve.title for curve in tg.weight_histograms(model, clustered)]
        ['out/kernel']
    """
    for model in (before, after):
        check_built_model(model)
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise invalid_value("bins", expected="an integer >= 2", received=bins)
    ones, others = weights_by_path(strip(before)), weights_by_path(strip(after))
    both = [name for name, one in ones.items() if name in others and one.shape == others[name].shape]
    if not both:
        raise invalid_value(
            "after", expected=f"a model with weights of '{before.name}' ({', '.join(list(ones)[:4])}, ...)",
            received=f"'{after.name}' with {', '.join(list(others)[:4]) or 'none'}",
        )  # fmt: skip
    curves = []
    for name in both:
        pair = [np.asarray(keras.ops.convert_to_numpy(w), "float64").ravel() for w in (ones[name], others[name])]
        if len(ones[name].shape) < 2 or (pair[0] == pair[1]).all():
            continue
        edges = np.linspace(min(map(np.min, pair)), max(map(np.max, pair)), bins + 1)
        centres = (edges[:-1] + edges[1:]) / 2
        shares = [np.histogram(values, edges)[0] / values.size for values in pair]
        series = {when: list(zip(centres, share)) for when, share in zip(("before", "after"), shares)}
        curves.append(Curve(title=name, x_label="value", y_label="share of the weights", series=series))
    return tuple(curves)
