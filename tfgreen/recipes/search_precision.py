"""search_precision: an int8 file that keeps the score, with as few layers in float as that takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import ClassVar

import keras
import numpy as np

from tfgreen.checks import check_bool, check_instance, check_number
from tfgreen.config import named_options
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import run_conversion
from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.inspection.layer_errors import LayerErrors
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.graph import LayerGraph
from tfgreen.model.paths import check_built_model
from tfgreen.model.samples import sample_arrays
from tfgreen.recipes.fewest import fewest
from tfgreen.structure import pack
from tfgreen.tables import RowResult, TableResult, plain
from tfgreen.techniques.equalize import equalize, find_pairs
from tfgreen.techniques.fold_batch_norm import fold_batch_norm
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import Arrays, PlainDict, Samples

Score = Callable[[LiteRTModel], float]


@dataclasses.dataclass(frozen=True)
class Trial(RowResult):
    """A file that was tried: ``"float32"``, ``"int8"`` or ``"equalized int8"``, and the paths of its float layers."""

    name: str
    keep_float: tuple[str, ...]
    score: float
    size_bytes: int


@dataclasses.dataclass(frozen=True, repr=False)
class MixedPrecision(TableResult):
    """What :func:`tfgreen.search_precision` found; prints as a table of all files that were tried.

    Attributes:
        lite: The file.
        model: The Keras model it was made from: the one passed in, or its equalized copy.
        keep_float: Paths of the layers that compute in float32, in the order of the graph; none if all are int8.
        score: What the file scores.
        trials: Every file that was tried, the float one first.
        cause: Why the plain int8 file falls short, in a sentence; "" if it does not.
        cause_layers: Paths of the layers, computed by one operator, that the sentence is about.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> found = tg.search_precision(model, x, x=x, y=model.predict(x, verbose=0).argmax(-1), max_drop=0.1)
        >>> found.keep_float, found.cause
        ((), '')
    """

    lite: LiteRTModel
    model: keras.Model
    keep_float: tuple[str, ...]
    score: float
    trials: tuple[Trial, ...]
    cause: str
    cause_layers: tuple[str, ...]

    _headings: ClassVar[tuple[str, ...]] = ("file", "score", "drop", "bytes", "layers in float")
    _left = (0, 4)

    def to_dict(self) -> PlainDict:
        """Plain values: all but the file and the model."""
        return plain({name: value for name, value in vars(self).items() if name not in ("lite", "model")})

    def _headline(self) -> str:
        return f"score {self.score:.4f}, {self.lite.size_bytes:,} bytes, {len(self.keep_float)} layers in float"

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for trial in self.trials:
            figures = f"{trial.score:.4f}", f"{self.trials[0].score - trial.score:.4f}", f"{trial.size_bytes:,}"
            rows.append((trial.name, *figures, "all" if trial.name == "float32" else ", ".join(trial.keep_float)))
        return rows

    def _remarks(self) -> list[str]:
        kept = f"Kept in float: {', '.join(self.keep_float)}." if self.keep_float else "All layers are int8."
        return [self.cause, kept] if self.cause else [kept]


@named_options
def search_precision(
    model: keras.Model,
    calibration_data: Samples,
    *,
    x: Arrays | None = None,
    y: np.ndarray | None = None,
    score: Score | None = None,
    max_drop: float = 0.01,
    equalize_first: bool = True,
    config: ConvertConfig | None = None,
) -> MixedPrecision:
    """Convert a model to int8, keeping in float what it takes for the score to drop by no more than ``max_drop``.

    If the int8 file falls short, the model is equalized (:func:`tfgreen.equalize`), where that applies; the copy is
    used if its file scores better. If that falls short too, layers are kept in float: those first that by
    :func:`tfgreen.compare_layers` lower the signal-to-noise ratio most, each followed by the layers whose outputs it
    takes, since a tensor is float only between two layers that are. How many is found by doubling and bisection, which
    assumes that more of them are no worse; then up to 8 of them are tried in int8 again, one by one.

    Args:
        model: A built Sequential or functional model. It is not changed.
        calibration_data: Representative inputs, as for :class:`tfgreen.ConvertConfig`. The layers are compared on the
            first 64.
        x: Inputs of the evaluation, of shape (samples, ...), in the structure of the model's inputs.
        y: Their class numbers, of shape (samples,). With ``x`` and ``y`` the score is the accuracy, 0 to 1.
        score: In place of ``x`` and ``y``: called with a file, returns what counts, larger is better.
        max_drop: How much less than the float file the result may score, >= 0, in the unit of the score.
        equalize_first: Whether to try equalization.
        config: How to convert; ``quantization="int8"``, without data. Its ``keep_float`` always holds.

    Returns:
        The file, the layers kept in float, and all that was tried. Equal arguments give equal results.

    Raises:
        TypeError: An argument is of another type, or the score is no number.
        ValueError: The model is not built or, where layers have to be kept in float, subclassed; the data or ``config``
            does not fit; the score is not finite; or it falls short even with all layers but one in float.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> labels = model.predict(x, verbose=0).argmax(-1)
        >>> result = tg.search_precision(model, x, x=x, y=labels, max_drop=0.1)
        >>> result.keep_float, [trial.name for trial in result.trials]
        ((), ['float32', 'int8'])
    """
    config = ConvertConfig(quantization="int8") if config is None else config
    score = _score(x, y, score)
    check_number("max_drop", max_drop, minimum=0)
    check_bool("equalize_first", equalize_first)
    check_instance("config", config, ConvertConfig, "a tg.ConvertConfig")
    if config.quantization != "int8":
        raise invalid_value("config.quantization", expected="'int8'", received=repr(config.quantization))
    if config.calibration_data is not None:
        raise invalid_state("config.calibration_data is set.", "Pass the data as search_precision(model, data, ...).")
    check_built_model(model)
    spec = read_call_spec(model)
    search = _Search(pack(spec.structure, sample_arrays(calibration_data, spec)), score, config)
    return search.run(model, max_drop, equalize_first)


class _Search:
    """Converts, scores and remembers."""

    def __init__(self, samples: Arrays, score: Score, config: ConvertConfig) -> None:
        self._samples, self._score, self._config = samples, score, config
        self._trials: list[Trial] = []

    def run(self, model: keras.Model, max_drop: float, equalize_first: bool) -> MixedPrecision:
        least = self._trial("float32", model, ConvertConfig(labels=self._config.labels))[1] - max_drop
        name, cause = "int8", ""
        layers: tuple[str, ...] = ()
        lite, found = self._int8(name, model)
        if found < least:
            errors = compare_layers(model, lite, self._samples)
            cause, layers = errors.cause, errors.cause_layers
            if equalize_first and not list(compressed_layers(model)) and find_pairs(fold_batch_norm(model))[0]:
                equalized = equalize(model)
                other, score = self._int8("equalized int8", equalized)
                if score > found:
                    name, model, lite, found = "equalized int8", equalized, other, score
                    errors = compare_layers(model, lite, self._samples) if found < least else errors
        kept: set[str] = set()
        if found < least:
            lite, found, kept = self._with_float_layers(name, model, _groups(errors), least)
        order = dict.fromkeys(node.path for node in LayerGraph(model).nodes) if kept else ()
        keep_float = tuple(path for path in order if path in kept)
        return MixedPrecision(lite, model, keep_float, found, tuple(self._trials), cause, layers)

    def _with_float_layers(
        self, name: str, model: keras.Model, ranked: list[tuple[str, ...]], least: float
    ) -> tuple[LiteRTModel, float, set[str]]:
        """The file in which few of the ranked layers are float, its score and their paths."""
        best: list[tuple[LiteRTModel, float, set[str]]] = []

        def enough(chosen: Collection[int]) -> bool:
            paths = [path for index in chosen for path in ranked[index]]
            lite, score = self._int8(name, model, paths)
            if score >= least:
                best[:] = [(lite, score, set(paths))]
            return score >= least

        if fewest(len(ranked) - 1, enough) is None:
            left = "+".join(ranked[-1]) if ranked else "those that cannot be compared"
            raise invalid_state(
                f"max_drop asks for a score of {least:.4f} (the float file has {self._trials[0].score:.4f}), but even "
                f"with all layers but {left} in float it is {self._trials[-1].score:.4f}.",
                "Allow more, or train for int8: tg.quantize(model, ...).",
            )
        return best[0]

    def _int8(self, name: str, model: keras.Model, paths: Collection[str] = ()) -> tuple[LiteRTModel, float]:
        keep_float = (*self._config.keep_float, *paths)
        config = dataclasses.replace(self._config, calibration_data=self._samples, keep_float=keep_float)
        return self._trial(name, model, config, tuple(paths))

    def _trial(
        self, name: str, model: keras.Model, config: ConvertConfig, keep_float: tuple[str, ...] = ()
    ) -> tuple[LiteRTModel, float]:
        lite = run_conversion(model, config)
        score = self._score(lite)
        check_number("score(lite)", score)
        self._trials.append(Trial(name, keep_float, float(score), lite.size_bytes))
        return lite, float(score)


def _groups(errors: LayerErrors) -> list[tuple[str, ...]]:
    """Layers in the order in which to keep them in float: those that lose most first, each with its sources."""
    rows = (one for row in errors.ranked() for one in (row, *errors.sources_of(row)))
    return list(dict.fromkeys(row.paths for row in rows))


def _score(x: Arrays | None, y: np.ndarray | None, score: Score | None) -> Score:
    if score is None and x is not None and y is not None:
        return lambda lite: lite.evaluate(x, y)
    if score is None or x is not None or y is not None:
        example = "search_precision(model, data, x=x_val, y=y_val), or score=lambda lite: lite.evaluate(x_val, y_val)"
        raise invalid_state("search_precision needs x and y, whose accuracy counts, or a score.", f"Call {example}.")
    if not callable(score):
        raise invalid_type("score", expected="a function of a LiteRTModel", received=score)
    return score
