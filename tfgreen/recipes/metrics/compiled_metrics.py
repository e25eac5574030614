"""The metrics and losses that a model was compiled with, by the names that the history of ``fit`` has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras

from tfgreen.errors import invalid_state
from tfgreen.model.internals import compile_settings
from tfgreen.model.rebuild import check_compiled
from tfgreen.recipes.metrics.direction import metric_name

# Output (None for the only one), metric or loss, and its weight in a sum.
Parts: TypeAlias = "list[tuple[str | None, Any, float]]"


def compiled_metrics(model: keras.Model) -> dict[str, Parts]:
    """Name -> what it is the sum of: metrics first, then the loss of each output and ``"loss"``, their weighted sum.

    Penalties of weights, and losses that layers add, are not in it; ``weighted_metrics`` neither.

    Raises:
        ValueError: The model is not compiled.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse", metrics=["mae"])
        >>> compiled_metrics(model)
        {'mae': [(None, 'mae', 1.0)], 'loss': [(None, 'mse', 1.0)]}
    """
    check_compiled(model)
    settings = compile_settings(model)
    outputs = list(getattr(model, "output_names", None) or [])
    found: dict[str, Parts] = {}
    for output, metrics in by_output(settings.get("metrics"), outputs, "metrics").items():
        for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
            if metric is not None:
                name = metric_name(metric)
                found[f"{output}_{name}" if output else name] = [(output, metric, 1.0)]
    losses = {out: loss for out, loss in by_output(settings.get("loss"), outputs, "loss").items() if loss is not None}
    given = settings.get("loss_weights")
    weights: dict[str | None, Any] = {None: given}
    if not isinstance(given, (int, float)):
        weights = by_output(given, outputs, "loss_weights")
    total: Parts = []
    for output, loss in losses.items():
        loss = loss[0] if isinstance(loss, (list, tuple)) and len(loss) == 1 else loss
        if output:
            found[f"{output}_loss"] = [(output, loss, 1.0)]
        weight = weights.get(output)
        total.append((output, loss, 1.0 if weight is None else float(weight)))
    if total:
        found["loss"] = total
    return found


def by_output(given: Any, outputs: Sequence[str], subject: str) -> dict[str | None, Any]:
    """What belongs to each output, of what ``Model.compile`` was given; to None where there is only one.

    Example:
        >>> by_output(["mse", "mae"], ["size", "price"], "loss"), by_output("mse", ["size"], "loss")
        ({'size': 'mse', 'price': 'mae'}, {None: 'mse'})
    """
    if given is None:
        return {}
    if len(outputs) <= 1 and not (isinstance(given, Mapping) and len(given) > 1):
        if isinstance(given, Mapping):
            return {None: next(iter(given.values()))} if given else {}
        nested = isinstance(given, (list, tuple)) and len(given) == 1 and isinstance(given[0], (list, tuple))
        return {None: given[0] if nested else given}
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, (list, tuple)):
        return dict(zip(outputs, given))
    if subject == "loss":  # of every output
        return {output: given for output in outputs}
    sentence = f"The model was compiled with {subject}={given!r} for several outputs."
    raise invalid_state(sentence, "Pass a dict by output.")
