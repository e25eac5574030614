"""Find an int8 file that keeps the score, with as few layers in float as that takes."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.inspection.layer_errors import LayerErrors
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.graph import LayerGraph
from tfgreen.techniques.equalize import equalize, find_pairs
from tfgreen.techniques.fold_batch_norm import fold_batch_norm
from tfgreen.transforms.compressed import compressed_layers

_MOST_RETURNED = 8  # layers that are tried in int8 again, one conversion each

Score = Callable[[LiteRTModel], float]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A file that was tried.

    Attributes:
        name: ``"float32"``, ``"int8"``, or ``"equalized int8"``.
        kept: Paths of the layers kept in float.
        score: What the file scores.
        size_bytes: Its size.
    """

    name: str
    kept: tuple[str, ...]
    score: float
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class MixedPrecision:
    """What :func:`tfgreen.quantize_within` found; prints as a table of all files that were tried.

    Attributes:
        lite: The file.
        model: The Keras model it was made from: the one passed in, or its equalized copy.
        kept: Paths of the layers that compute in float32, in the order of the graph; none if all are int8.
        score: What the file scores.
        scores: Every file that was tried, the float one first.
        cause: Why the plain int8 file falls short, in a sentence; "" if it does not.
        cause_layers: Paths of the layers, computed by one operator, that the sentence is about.
    """

    lite: LiteRTModel
    model: keras.Model
    kept: tuple[str, ...]
    score: float
    scores: tuple[Trial, ...]
    cause: str
    cause_layers: tuple[str, ...]

    def __str__(self) -> str:
        first = self.scores[0].score
        rows = [("file", "score", "drop", "bytes", "layers in float")]
        for trial in self.scores:
            figures = f"{trial.score:.4f}", f"{first - trial.score:.4f}", f"{trial.size_bytes:,}"
            kept = "all" if trial.name == "float32" else ", ".join(trial.kept)
            rows.append((trial.name, *figures, kept))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        pads = [str.ljust, str.rjust, str.rjust, str.rjust, str.ljust]
        lines = ["  ".join(pad(c, n) for pad, c, n in zip(pads, row, widths)).rstrip() for row in rows]
        kept = f"Kept in float: {', '.join(self.kept)}." if self.kept else "All layers are int8."
        return "\n".join([*lines, *([self.cause] if self.cause else []), kept])


def quantize_within(
    model: keras.Model,
    x: Any,
    score: Score,
    max_drop: float,
    config: ConvertConfig = ConvertConfig(quantization="int8"),
    *,
    equalize_first: bool = True,
) -> MixedPrecision:
    """Convert a model to int8, keeping in float what it takes for the score to drop by no more than ``max_drop``.

    If the int8 file falls short, the model is equalized (:func:`tfgreen.equalize`), where that applies; the copy is
    kept if its file scores better. If that falls short too, layers are kept in float: those first that by
    :func:`tfgreen.compare_layers` lower the signal-to-noise ratio most, each followed by the layers whose outputs it
    takes, since a tensor is float only between two layers that are. How many is found by doubling and bisection, which
    takes more of them for no worse; then up to 8 of them are tried in int8 again, one by one.

    Args:
        model: A built Sequential or functional model. It is not changed.
        x: Calibration samples, arrays of shape (samples, ...) in the structure of the model's inputs. The layers are
            compared on the first 64.
        score: Called with a file; returns what counts, larger is better: ``lambda lite: lite.evaluate(x_val, y_val)``.
        max_drop: How much less than the float file the result may score, >= 0, in the unit of the score.
        config: How to convert; ``quantization="int8"``, without data. Its ``keep_float`` always holds.
        equalize_first: Whether to try equalization.

    Returns:
        The file, the layers kept in float, and all that was tried: :class:`MixedPrecision`. Equal arguments give equal
        results.

    Raises:
        TypeError: An argument is of another type, or the score is no number.
        ValueError: The model is not built, or, where layers have to be kept in float, subclassed; the data does not
            fit; ``config`` is for another quantization; the score is not finite; or even with all layers but one in
            float it falls short.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> labels = model.predict(x, verbose=0).argmax(-1)
        >>> result = tg.quantize_within(model, x, lambda lite: lite.evaluate(x, labels), max_drop=0.1)
        >>> result.kept, [trial.name for trial in result.scores]
        ((), ['float32', 'int8'])
    """
    _check(score, max_drop, config)
    search = _Search(x, score, config)
    exact = search.trial("float32", model, ConvertConfig(labels=config.labels))[1]
    least = exact - max_drop
    lite, plain = search.int8("int8", model, ())
    if plain >= least:
        return MixedPrecision(lite, model, (), plain, tuple(search.trials), "", ())
    errors = compare_layers(model, lite, x)
    cause, layers = errors.cause, errors.cause_layers
    name = "int8"
    if equalize_first and not list(compressed_layers(model)) and find_pairs(fold_batch_norm(model))[0]:
        equalized = equalize(model)
        lite, found = search.int8("equalized int8", equalized, ())
        if found >= least:
            return MixedPrecision(lite, equalized, (), found, tuple(search.trials), cause, layers)
        if found > plain:
            name, model, errors = "equalized int8", equalized, compare_layers(equalized, lite, x)
    lite, kept, found = _fewest(search, name, model, _groups(errors), least)
    order = [path for path in dict.fromkeys(node.path for node in LayerGraph(model).nodes) if path in kept]
    return MixedPrecision(lite, model, tuple(order), found, tuple(search.trials), cause, layers)


class _Search:
    """Converts, scores and remembers."""

    def __init__(self, x: Any, score: Score, config: ConvertConfig) -> None:
        self._x, self._score, self._config = x, score, config
        self.trials: list[Trial] = []

    def int8(self, name: str, model: keras.Model, groups: Sequence[tuple[str, ...]]) -> tuple[LiteRTModel, float]:
        kept = tuple(path for group in groups for path in group)
        keep_float = (*self._config.keep_float, *kept)
        config = dataclasses.replace(self._config, calibration_data=self._x, keep_float=keep_float)
        return self.trial(name, model, config, kept)

    def trial(
        self, name: str, model: keras.Model, config: ConvertConfig, kept: tuple[str, ...] = ()
    ) -> tuple[LiteRTModel, float]:
        lite = convert(model, config)
        score = self._score(lite)
        if isinstance(score, bool) or not isinstance(score, numbers.Real):
            raise invalid_type("score(lite)", expected="a number", received=score)
        if not math.isfinite(score):
            raise invalid_value("score(lite)", expected="a finite number", received=score)
        self.trials.append(Trial(name, kept, float(score), lite.size_bytes))
        return lite, float(score)


def _fewest(
    search: _Search, name: str, model: keras.Model, ranked: list[tuple[str, ...]], least: float
) -> tuple[LiteRTModel, set[str], float]:
    """The first of the ranked layers that have to stay float: their file, their paths and its score."""
    below, count = 0, 1  # so many fall short; so many are tried
    best = None
    while best is None:
        count = min(count, len(ranked) - 1)
        if count <= below:
            floats = search.trials[0].score
            raise invalid_value(
                "max_drop", expected="a drop that a file with an int8 layer can keep to",
                received=f"one that asks for a score of {least:.4f} (float: {floats:.4f}), while even with all layers "
                f"but {'+'.join(ranked[-1]) if ranked else 'those that cannot be compared'} in float it is "
                f"{search.trials[-1].score:.4f}",
                fix="Allow more, or train for int8: tg.quantize(model, ...).",
            )  # fmt: skip
        lite, found = search.int8(name, model, ranked[:count])
        if found >= least:
            best = lite, ranked[:count], found
        else:
            below, count = count, 2 * count
    while count - below > 1:
        middle = (below + count) // 2
        lite, found = search.int8(name, model, ranked[:middle])
        if found >= least:
            best, count = (lite, ranked[:middle], found), middle
        else:
            below = middle
    # The last of them is needed, since without it the score falls short.
    for group in best[1][-2::-1][:_MOST_RETURNED]:
        fewer = [other for other in best[1] if other != group]
        lite, found = search.int8(name, model, fewer)
        if found >= least:
            best = lite, fewer, found
    return best[0], {path for group in best[1] for path in group}, best[2]


def _groups(errors: LayerErrors) -> list[tuple[str, ...]]:
    """Layers in the order in which to keep them in float: those that lose most first, each with its sources."""
    rows = (one for row in errors.ranked() for one in (row, *errors.sources_of(row)))
    return list(dict.fromkeys(row.paths for row in rows))


def _check(score: Any, max_drop: Any, config: Any) -> None:
    if not callable(score):
        raise invalid_type("score", expected="a function of a LiteRTModel", received=score)
    if isinstance(max_drop, bool) or not isinstance(max_drop, numbers.Real):
        raise invalid_type("max_drop", expected="a number >= 0", received=max_drop)
    if not 0 <= float(max_drop) < math.inf:
        raise invalid_value("max_drop", expected="a number >= 0", received=max_drop)
    if not isinstance(config, ConvertConfig):
        raise invalid_type("config", expected="a ConvertConfig", received=config)
    if config.quantization != "int8":
        raise invalid_value("config.quantization", expected="'int8'", received=repr(config.quantization))
    if config.calibration_data is not None:
        raise invalid_value("config.calibration_data", expected="none, because it is x", received="some")
