"""Profile operators: how long each operator of a .tflite file takes on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tfgreen.checks import check_instance, check_integer
from tfgreen.deploy.inspection.benchmark import ready_interpreter, time_in_turn
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.apart import Apart
from tfgreen.deploy.tflite.cut_operator import cut_operator, reason_not_to_cut
from tfgreen.deploy.tflite.interpreter import invoke
from tfgreen.errors import ConversionError, TfgreenError
from tfgreen.tables import RowResult, TableResult
from tfgreen.typing import PlainDict, Samples

_WARMUP = 5


@dataclasses.dataclass(frozen=True)
class OperatorTime(RowResult):
    """The time of one operator of the main graph; ``operator``, ``layers`` and ``tensor`` are those of the audit.

    Attributes:
        median_us: Median wall-clock time of one run in microseconds; None if it was not timed.
        share: ``median_us`` over the sum of all operators that were timed; None if it was not.
        reason: Why it was not timed, else empty.
    """

    operator: str
    layers: tuple[str, ...]
    tensor: str
    median_us: float | None
    share: float | None
    reason: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class OperatorProfile(TableResult):
    """The :class:`OperatorTime` of every operator, in the order in which they run; prints as a table."""

    operators: tuple[OperatorTime, ...]
    threads: int
    runs: int

    _headings: ClassVar[tuple[str, ...]] = ("operator", "layers", "us", "share")
    _left = 2

    @property
    def total_us(self) -> float:
        """Sum of the medians of the operators that were timed, in microseconds."""
        return sum(row.median_us for row in self.operators if row.median_us is not None)

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, ``"total_us"`` and ``"source": "measured: each operator alone"``."""
        return {**super().to_dict(), "total_us": self.total_us, "source": "measured: each operator alone"}

    def _headline(self) -> str:
        return f"{len(self.operators)} operators, {self.total_us:.1f} us in sum"

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for row in self.operators:
            figures = ("?", "?") if row.median_us is None else (f"{row.median_us:.1f}", f"{row.share:.1%}")
            rows.append((row.operator, " + ".join(row.layers) or f"({row.tensor})", *figures))
        return [*rows, ("sum", "", f"{self.total_us:.1f}", "")]

    def _remarks(self) -> list[str]:
        reasons = [f"{row.operator} ({row.tensor}) not timed: {row.reason}" for row in self.operators if row.reason]
        how = f"each operator alone, median of {self.runs} runs, {self.threads} thread{'s' * (self.threads > 1)}"
        return [*reasons, how]


def profile_operators(
    lite: LiteRTModel, *, x: Samples | None = None, threads: int = 1, runs: int = 50
) -> OperatorProfile:
    """Measure every operator of the main graph by itself.

    LiteRT's Python interpreter has no profiler. So each operator is cut out into a file of its own and gets the values
    that an inference of the model on random inputs gives it. The files run in turn, as in :func:`tfgreen.benchmark`.
    Operators that cannot run alone have a reason in place of a time: those that run other subgraphs or hold variables,
    those that unpack constant weights, which LiteRT does once, and those on which its runtime crashes. All runs in a
    process of its own.

    The sum is not the latency of the whole: XNNPACK holds tensors in its own layout between neighbours, and each time
    includes the call into the interpreter. Trust the order and the large shares, not the microseconds of small ones.

    Args:
        lite: The model.
        x: Real inputs, as :meth:`LiteRTModel.predict` takes them, of which the first sample runs. None for random ones,
            with which an open size runs as 1.
        threads: CPU threads for the interpreters, at least 1.
        runs: Runs timed per operator, at least 1.

    Raises:
        ValueError: ``threads`` or ``runs`` is below 1.
        TypeError: ``lite`` is no ``LiteRTModel``, or a count no integer.
        ConversionError: The interpreter refuses the model, or crashes on it.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax", name="out")])
        >>> profile = tg.profile_operators(tg.convert(model), runs=5)
        >>> [(row.operator, row.layers) for row in profile.operators]
        [('FULLY_CONNECTED', ('out',)), ('SOFTMAX', ('out',))]
    """
    check_instance("lite", lite, LiteRTModel, "a LiteRTModel")
    check_integer("threads", threads, minimum=1, maximum=1024)
    check_integer("runs", runs, minimum=1)
    threads, runs = int(threads), int(runs)
    reasons = [reason_not_to_cut(lite.parsed, operator) for operator in lite.parsed.subgraphs[0].operators]
    sample = None if x is None else lite.first_sample(x)
    medians = _medians(lite, sample, threads, runs, reasons)
    total = sum(medians.values())
    shares = {index: median / total for index, median in medians.items()}
    rows = [
        OperatorTime(row.operator, row.layers, row.tensor, medians.get(index), shares.get(index), reasons[index])
        for index, row in enumerate(lite.audit.operators)
    ]
    return OperatorProfile(tuple(rows), threads, runs)


def _medians(
    lite: LiteRTModel, sample: Mapping[str, np.ndarray] | None, threads: int, runs: int, reasons: list[str]
) -> dict[int, float]:
    """Median microseconds by number of the operator; operators that cannot run alone get their reason."""
    while True:
        with Apart(measure) as apart:
            ended = apart.run(lite.content, sample, threads, runs, reasons)
        for number, reason in ended.items[:-1]:
            reasons[number] = reason
        if not ended.items:
            raise ConversionError(f"LiteRT's runtime crashes on the model ({ended.how}).")
        if not ended.crashed:
            break
        # The last operator that was begun is the one that ended the process: time the others without it.
        reasons[ended.items[-1][0]] = f"LiteRT's runtime crashes on it ({ended.how})"
    last = ended.items[-1]
    if isinstance(last, TfgreenError):
        raise last
    return last


def measure(
    content: bytes, sample: Mapping[str, np.ndarray] | None, threads: int, runs: int, reasons: Sequence[str]
) -> Iterator[Any]:
    """Yield ``(number, "")`` before each operator without a reason is tried and ``(number, reason)`` if it fails, at
    the end the medians, or the error."""
    lite = LiteRTModel(content)
    try:
        values = ready_interpreter(lite, sample=sample, keep_tensors=True)
        invoke(values)
    except ConversionError as error:
        yield error
        return
    interpreters: dict[int, Interpreter] = {}
    for number in [number for number, reason in enumerate(reasons) if not reason]:
        yield number, ""
        try:
            interpreters[number] = _alone(lite, number, values, threads)
        except ConversionError as error:
            yield number, str(error)
    times = time_in_turn(interpreters, runs, _WARMUP)
    yield {number: float(np.median(nanoseconds)) / 1e3 for number, nanoseconds in times.items()}


def _alone(lite: LiteRTModel, index: int, values: Interpreter, threads: int) -> Interpreter:
    """An interpreter of one operator with its inputs set, run once."""
    shapes = {detail["index"]: detail["shape"] for detail in values.get_tensor_details()}
    content, sources = cut_operator(lite.parsed, index, shapes)
    interpreter = LiteRTModel(content, f"operator {index}").new_interpreter(threads)
    for detail, source in zip(interpreter.get_input_details(), sources):
        interpreter.set_tensor(detail["index"], values.get_tensor(source))
    invoke(interpreter)
    return interpreter
