"""Benchmark: how long one inference takes on this machine, and how much memory."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import ClassVar, TypeVar, overload

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tfgreen.checks import check_instance, check_integer
from tfgreen.config import named_options
from tfgreen.deploy.inspection.sparse_inference import NO_KERNEL_ON_X86, runs_on_x86, stores_sparse
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.contents import TensorInfo
from tfgreen.deploy.tflite.interpreter import naming_failures
from tfgreen.errors import ConversionError, invalid_state
from tfgreen.files import temporary_folder
from tfgreen.structure import rename
from tfgreen.tables import SentenceResult, TableResult
from tfgreen.typing import PlainDict, Samples

_Key = TypeVar("_Key")
_SLOWER = 1.05  # ratio of medians above which a file is called slower
_FLOAT = ("float32", "float16")

# The first interpreter also brings the library's code into memory, which the second finds there.
_MEASURE = """
import json
import sys
import numpy
import psutil
from ai_edge_litert.interpreter import Interpreter

process, interpreters, before = psutil.Process(), [], 0
for _ in range(2):
    before = process.memory_info().rss
    interpreter = Interpreter(model_path=sys.argv[1], num_threads=int(sys.argv[2]))
    for index, shape in json.loads(sys.argv[3]):
        interpreter.resize_tensor_input(index, shape)
    interpreter.allocate_tensors()
    for item in interpreter.get_input_details():  # an id to look up may not be what the memory held before
        interpreter.set_tensor(item["index"], numpy.zeros(item["shape"], item["dtype"]))
    for _ in range(2):
        interpreter.invoke()
    interpreters.append(interpreter)
print("bytes", process.memory_info().rss - before)
"""


@dataclasses.dataclass(frozen=True, repr=False)
class BenchmarkResult(SentenceResult):
    """Measured latency of one inference (batch of 1), in milliseconds of wall-clock time.

    Nine runs in ten stay below ``p90_ms``; ``spread_ms`` is the interquartile range, and large beside the median on a
    busy machine. ``peak_memory_bytes`` is of one more interpreter in a process, measured in a process of its own.
    ``shapes`` are those of the inputs that ran, by name; ``assumed`` names the inputs of open size that ran with 1;
    ``note`` says so where weights that are stored sparse gain no time on this processor.
    """

    median_ms: float
    p90_ms: float
    min_ms: float
    spread_ms: float
    threads: int
    runs: int
    warmup: int
    peak_memory_bytes: int
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    note: str = ""

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, and ``"source": "measured"``."""
        return {**super().to_dict(), "source": "measured"}

    def __str__(self) -> str:
        median, p90, least, spread, memory = self._figures()
        times = f"{median} ms median (p90 {p90}, min {least}, spread {spread})"
        how = f"{self.threads} thread{'s' * (self.threads > 1)}, {self.runs} runs, {memory} MB, {self.inputs}"
        return f"{times}, {how}. {self.note}" if self.note else f"{times}, {how}"

    @property
    def inputs(self) -> str:
        """The shapes that ran, and which sizes were assumed, in words."""
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes.items())
        return f"inputs {shapes}" + "; open sizes ran as 1: pass x=real inputs" * bool(self.assumed)

    def _figures(self) -> tuple[str, ...]:
        times = (self.median_ms, self.p90_ms, self.min_ms, self.spread_ms)
        return (*(f"{ms:.4g}" for ms in times), f"{self.peak_memory_bytes / 1e6:.2f}")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BenchmarkResults(TableResult, Mapping[str, BenchmarkResult]):
    """A mapping from the names of models that ran in turn to their results; prints as a table, and the notes.

    Attributes:
        results: The same as a plain mapping.
        notes: A sentence for each quantized model that was slower than a float one beside it, and for each with
            sparse weights on a processor that has no sparse kernels.
    """

    results: Mapping[str, BenchmarkResult]
    notes: tuple[str, ...]

    _headings: ClassVar[tuple[str, ...]] = ("model", "median ms", "p90", "min", "spread", "MB", "inputs")
    _left = (0, 6)

    def __getitem__(self, name: str) -> BenchmarkResult:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def _headline(self) -> str:
        return ", ".join(f"{name} {result.median_ms:.4g} ms" for name, result in self.items())

    def _rows(self) -> list[tuple[str, ...]]:
        return [(name, *result._figures(), result.inputs) for name, result in self.items()]

    def _remarks(self) -> tuple[str, ...]:
        return self.notes


@overload
def benchmark(
    lite: LiteRTModel, *, x: Samples | None = None, threads: int = 1, runs: int = 100, warmup: int = 10, seed: int = 0
) -> BenchmarkResult: ...


@overload
def benchmark(
    lite: Mapping[str, LiteRTModel],
    *,
    x: Samples | None = None,
    threads: int = 1,
    runs: int = 100,
    warmup: int = 10,
    seed: int = 0,
) -> BenchmarkResults: ...


@named_options
def benchmark(
    lite: LiteRTModel | Mapping[str, LiteRTModel],
    *,
    x: Samples | None = None,
    threads: int = 1,
    runs: int = 100,
    warmup: int = 10,
    seed: int = 0,
) -> BenchmarkResult | BenchmarkResults:
    """Measure the latency and memory of one model, or of several in turn.

    Several models run interleaved, one inference each per round: whatever else the machine does falls on all of them,
    and their ratio holds even where the milliseconds do not. Only the inference is timed, not the copying of inputs and
    outputs. Measuring the memory takes half a second for each. Returns a :class:`BenchmarkResult`, or for several
    models :class:`BenchmarkResults`.

    Args:
        lite: A model, or models by name.
        x: Real inputs, as :meth:`LiteRTModel.predict` takes them, of which the first sample runs. None for random ones,
            with which an open size runs as 1, and the result says so.
        threads: CPU threads for the interpreter, at least 1.
        runs: Inferences timed per model, at least 1.
        warmup: Inferences run before, per model; the first ones allocate.
        seed: Of the random inputs: floats in [0, 1), the full range of a quantized input, and 0 or 1 for integers,
            which every vocabulary has. Latency rarely depends on them.

    Raises:
        ValueError: ``threads`` or ``runs`` is below 1, ``warmup`` below 0, or there is no model.
        TypeError: Something is no ``LiteRTModel``, or a count no integer.
        ConversionError: The interpreter refuses a model.

    Example:
        >>> import keras, tfgreen as tg
        >>> lite = tg.convert(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        >>> tg.benchmark(lite, runs=20).runs, list(tg.benchmark({"small": lite}, runs=20))
        (20, ['small'])
    """
    check_integer("threads", threads, minimum=1, maximum=1024)  # a machine runs out of more
    for name, value, minimum in (("runs", runs, 1), ("warmup", warmup, 0), ("seed", seed, 0)):
        check_integer(name, value, minimum=minimum)
    threads, runs, warmup, seed = int(threads), int(runs), int(warmup), int(seed)
    models = dict(lite) if isinstance(lite, Mapping) else {"": lite}
    if not models:
        raise invalid_state("lite: there is no model in it.", "Pass one, or a dict of models by name.")
    for key, item in models.items():
        check_instance(f"lite['{key}']" if key else "lite", item, LiteRTModel, "a LiteRTModel")
    samples = dict[str, Mapping[str, np.ndarray]]()
    if x is not None:
        one = next(iter(models.values()))
        first = one.first_sample(x)  # read once, because x may be a generator
        for key, item in models.items():
            samples[key] = item.first_sample(rename(first, one.input_structure, item.input_structure, "x"))
    interpreters = {key: ready_interpreter(item, threads, seed, samples.get(key)) for key, item in models.items()}
    times = time_in_turn(interpreters, runs, warmup)
    results = {}
    for key, item in models.items():
        details = {detail["index"]: detail for detail in interpreters[key].get_input_details()}
        shapes = {info.name: tuple(map(int, details[info.index]["shape"])) for info in item.inputs}
        assumed = tuple(info.name for info in item.inputs if None in info.shape[1:]) if x is None else ()
        memory = peak_memory(item, threads, shapes)
        result = summarize(times[key], threads, warmup, memory)
        note = NO_KERNEL_ON_X86 if runs_on_x86() and stores_sparse(item) else ""
        results[key] = dataclasses.replace(result, shapes=shapes, assumed=assumed, note=note)
    if not isinstance(lite, Mapping):
        return results[""]
    notes = slower_notes(results, {key: item.quantization for key, item in models.items()})
    sparse = tuple(f"'{key}': {result.note}" for key, result in results.items() if result.note)
    return BenchmarkResults(results, notes + sparse)


def slower_notes(results: Mapping[str, BenchmarkResult], quantizations: Mapping[str, str]) -> tuple[str, ...]:
    """Say which quantized models were slower than the fastest float one that ran in turn with them."""
    floats = [name for name in results if quantizations[name] in _FLOAT]
    if not floats:
        return ()
    best = min(floats, key=lambda name: results[name].median_ms)
    ratios = {name: results[name].median_ms / results[best].median_ms for name in results if name not in floats}
    return tuple(
        f"'{name}' ({quantizations[name]}) is slower than '{best}' ({quantizations[best]}): {ratio:.2f} times its "
        "median. tg.profile_operators shows where."
        for name, ratio in ratios.items()
        if ratio > _SLOWER
    )


def time_in_turn(interpreters: Mapping[_Key, Interpreter], runs: int, warmup: int) -> dict[_Key, list[int]]:
    """Run each interpreter once per round; return the nanoseconds of each run after the first ``warmup`` rounds."""
    times: dict[_Key, list[int]] = {key: [] for key in interpreters}
    with naming_failures():
        for _ in range(warmup + runs):
            for key, interpreter in interpreters.items():
                start = time.perf_counter_ns()
                interpreter.invoke()
                times[key].append(time.perf_counter_ns() - start)
    return {key: found[warmup:] for key, found in times.items()}


def summarize(nanoseconds: list[int], threads: int, warmup: int, memory: int) -> BenchmarkResult:
    """Turn single times, and bytes of memory, into a result."""
    ms = np.asarray(nanoseconds, np.float64) / 1e6
    low, median, high, p90 = (float(q) for q in np.percentile(ms, [25, 50, 75, 90]))
    return BenchmarkResult(median, p90, float(ms.min()), high - low, threads, len(ms), warmup, memory)


def peak_memory(lite: LiteRTModel, threads: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None) -> int:
    """Bytes of resident memory that one more interpreter of the model takes, measured in a process of its own.

    That is the mapped file, the tensors (with inputs of ``shapes``, or a dynamic dimension of size 1), and the weights
    as XNNPACK packs them, without the code of the library. An interpreter frees nothing before it ends: what it holds
    after two inferences is its peak. Memory comes in pages: figures below 100 kB are coarse.
    """
    with temporary_folder() as folder:
        path = folder / "model.tflite"
        path.write_bytes(lite.content)
        sizes = [(info.index, shapes[info.name]) for info in lite.inputs] if shapes else []
        command = [sys.executable, "-c", _MEASURE, str(path), str(threads), json.dumps(sizes)]
        child = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if child.returncode:
        reason = child.stderr.strip().splitlines()[-1:] or [f"its process ended with {child.returncode}"]
        raise ConversionError(f"the memory of the model cannot be measured: {reason[0]}")
    return int(child.stdout.rpartition("bytes ")[2])


def random_input(info: TensorInfo, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Stored values of one sample for an input; see ``seed`` of :func:`benchmark`."""
    dtype = np.dtype(info.dtype)
    if dtype.kind == "f":
        return rng.random(shape, np.float32).astype(dtype)
    if info.scale is None:
        return rng.integers(0, 2, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def ready_interpreter(
    lite: LiteRTModel,
    threads: int = 1,
    seed: int = 0,
    sample: Mapping[str, np.ndarray] | None = None,
    keep_tensors: bool = False,
) -> Interpreter:
    """An interpreter with inputs set: one sample of real values by name, or random ones, whose open sizes are 1."""
    shapes = {name: array.shape for name, array in (sample or {}).items()}
    try:
        interpreter = lite.new_interpreter(threads, keep_tensors, shapes)
    except ConversionError as error:
        if sample is None and any(None in info.shape[1:] for info in lite.inputs):
            raise ConversionError(f"{error} Sizes that the file leaves open were 1: pass x, real inputs.") from error
        raise
    rng = np.random.default_rng(seed)
    sizes = {detail["index"]: tuple(detail["shape"]) for detail in interpreter.get_input_details()}
    for info in lite.inputs:
        stored = info.to_stored(sample[info.name]) if sample else random_input(info, sizes[info.index], rng)
        interpreter.set_tensor(info.index, stored)
    return interpreter
