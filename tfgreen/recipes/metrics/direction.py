"""Direction: whether more of a metric is better, told by what Keras knows of it, or by its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, Literal

import keras

from tfgreen.errors import invalid_type, invalid_value

Direction = Literal["higher", "lower"]

_FORMS = "a name, a keras.metrics.Metric, a keras.losses.Loss or a function of targets and predictions"

# Words of `Model.compile` that `keras.metrics.get` does not know.
_COMPILE = ("accuracy", "acc", "crossentropy", "ce")

# How names end: those of Keras's classes, in its spelling, and short forms.
_SHARES = (
    "accuracy acc auc precision recall sensitivity specificity f1 f1_score fbeta_score f_beta_score iou io_u "
    "dice_score dice_coefficient"
).split()
_HIGHER = [*_SHARES, *"r2 r2_score cosine_similarity true_positives true_negatives correlation psnr ssim".split()]
_LOWER = (
    "loss error mse mae mape msle rmse crossentropy cross_entropy ce divergence kldivergence poisson hinge huber "
    "log_cosh logcosh perplexity false_positives false_negatives"
).split()


def direction_of(metric: Any) -> Direction:
    """Whether a metric is better higher or lower: losses and errors lower; accuracy, AUC, F1, IoU, R2 and so on higher.

    Raises:
        ValueError: Neither what it is nor its name tells; it asks for ``direction=``.

    Example:
        >>> [direction_of(metric) for metric in ("accuracy", "label_auc", "val_loss", keras.metrics.MeanIoU(2))]
        ['higher', 'higher', 'lower', 'higher']
    """
    if _is_loss(metric):
        return "lower"
    names = _names(metric)
    for name in names:
        if _ends_with(name, _HIGHER):
            return "higher"
        if _ends_with(name, _LOWER):
            return "lower"
    fix = f"Say which is better: metric=tg.Metric.of(model, '{names[-1]}', direction='higher'), or 'lower'; "
    fix += "--direction on the command line."
    expected = "a name that tells its direction"
    raise invalid_value(f"metric '{names[-1]}'", expected=expected, received="another", fix=fix)


def is_share(metric: Any) -> bool:
    """Whether a metric lies in [0, 1] and reads as percent, told as by :func:`direction_of`.

    Example:
        >>> [is_share(metric) for metric in ("accuracy", "mae", "label_auc", keras.metrics.MeanIoU(2), "r2_score")]
        [True, False, True, True, False]
    """
    telling = (name for name in _names(metric) if _ends_with(name, [*_HIGHER, *_LOWER]))
    return not _is_loss(metric) and _ends_with(next(telling, ""), _SHARES)


def metric_name(metric: Any) -> str:
    """The name of a metric or a loss as Keras reports it; raises where Keras knows none of this name.

    Raises:
        TypeError: It is something else.
        ValueError: Keras does not know it, or it needs arguments.
    """
    if isinstance(metric, str):
        if metric not in _COMPILE and not (_gets(keras.metrics, metric) or _gets(keras.losses, metric)):
            known = {re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower() for name in vars(keras.metrics)}
            near = difflib.get_close_matches(metric, [*_COMPILE, *sorted(known)], 1)
            fix = f"Did you mean '{near[0]}'? One that takes arguments is passed as an object." if near else ""
            raise invalid_value("metric", expected="a metric or loss of Keras", received=repr(metric), fix=fix)
        return metric
    if isinstance(metric, type) or not callable(metric):
        raise invalid_type("metric", expected=_FORMS, received=metric, fix="Make an object of a class.")
    return str(getattr(metric, "name", None) or getattr(metric, "__name__", "metric"))


def is_metric(metric: Any) -> bool:
    """Whether Keras takes it as a metric; otherwise it is a loss, of which the mean is taken."""
    if isinstance(metric, str):
        return metric in _COMPILE or _gets(keras.metrics, metric)
    return not _is_loss(metric)


def _names(metric: Any) -> list[str]:
    """That of its class first, if it is a metric of Keras, then its own."""
    names = [metric if isinstance(metric, str) else metric_name(metric)]
    if isinstance(metric, keras.metrics.Metric):
        names.insert(0, re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", type(metric).__name__))
    return names


def _ends_with(name: str, ends: Sequence[str]) -> bool:
    words = re.sub(r"(_\d+)+$", "", name.lower())  # auc_1, as Keras numbers them
    is_turned = set(words.split("_")) & {"neg", "negative", "minus", "inverse", "inverted", "non", "not", "no"}
    return not is_turned and any(words == end or words.endswith(f"_{end}") for end in ends)


def _is_loss(metric: Any) -> bool:
    if isinstance(metric, str):
        return metric not in _COMPILE and not _gets(keras.metrics, metric) and _gets(keras.losses, metric)
    name = getattr(metric, "__name__", "")
    return isinstance(metric, keras.losses.Loss) or (bool(name) and getattr(keras.losses, name, None) is metric)


def _gets(module: Any, name: str) -> bool:
    """Whether Keras finds something of this name that needs no arguments."""
    try:
        return module.get(name) is not None
    except (ValueError, TypeError):
        return False
