"""factorize: kernels as products of two smaller ones, where the file that ships is smaller or faster for it."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, TypedDict, get_args

import keras
import numpy as np

from tfgreen.checks import check_integer, check_number, check_option
from tfgreen.config import Config, data_field, resolve_config
from tfgreen.errors import invalid_state
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.copy import Copies
from tfgreen.model.graph import LayerGraph
from tfgreen.model.layer_calls import Around, around_calls
from tfgreen.model.paths import check_built_model, paths_by_name, paths_to, replaceable_layers
from tfgreen.model.rebuild import rebuild
from tfgreen.model.samples import sample_batches
from tfgreen.quantization.opened import opened
from tfgreen.recipes.measured_files import latencies_ms, to_lite
from tfgreen.surgery.low_rank import LowRank, can_be_factorized, factorized
from tfgreen.tables import RowResult, TableResult, plain
from tfgreen.techniques.overrides import check_are_patterns, check_matches, with_aliases
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.transforms.one_shot.kernel_rows import KernelRows
from tfgreen.transforms.one_shot.padding import Padding
from tfgreen.typing import PlainDict, Samples, Shape, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

Measure = Literal["bytes", "latency", "both"]
FactorizeQuantization = Literal["float32", "float16", "dynamic", "int8"]

_GAIN = 0.02  # less is noise
_SMALL = 4096  # weights: a second layer takes about 1 kB of its own
_RUNS = 200
_ROWS = 4096  # of a batch, for the products of inputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorizeConfig(Config):
    """How to factorize.

    Attributes:
        energy: The rank is the least that keeps this share, above 0 and up to 1, of the mean square of what the kernel
            returns: on ``calibration_data``, or for inputs that are all alike where there is none.
        rank: The same rank for every layer instead, at least 1.
        calibration_data: Representative inputs, as for :class:`tfgreen.ConvertConfig`.
        quantization: How the files are converted that are measured.
        measure: What decides, for each layer alone: ``"bytes"`` of its file, ``"latency"`` of it on this machine, or
            ``"both"``: one of them falls by at least 2 %, and the other does not grow.
        threads: CPU threads of the measurement.
        keep: Patterns of layers that stay as they are (``"head*"``).

    Raises:
        TypeError, ValueError: A value is of another type, or out of its range.

    Example:
        >>> FactorizeConfig(energy=0.95).measure
        'both'
    """

    energy: float = 0.99
    rank: int | None = None
    calibration_data: Samples | None = data_field()
    quantization: FactorizeQuantization = "float32"
    measure: Measure = "both"
    threads: int = 1
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number("energy", self.energy, above=0, maximum=1)
        if self.rank is not None:
            check_integer("rank", self.rank, minimum=1)
        check_option("quantization", self.quantization, get_args(FactorizeQuantization))
        check_option("measure", self.measure, get_args(Measure))
        check_integer("threads", self.threads, minimum=1, maximum=1024)
        check_are_patterns("keep", self.keep, "head*")
        object.__setattr__(self, "keep", tuple(self.keep))


class FactorizeOptions(TypedDict, total=False):
    """The fields of :class:`FactorizeConfig`, as keyword arguments of :func:`factorize`."""

    energy: float
    rank: int | None
    calibration_data: Samples | None
    quantization: FactorizeQuantization
    measure: Measure
    threads: int
    keep: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class LayerFactors(RowResult):
    """What :func:`factorize` found of one layer.

    ``shape`` is that of its kernel as a matrix, ``rank`` the inner size that was tried, None if none was. Bytes are of
    a file of the layer alone, milliseconds its median latency. ``reason`` says why it stays as it is, or is "".
    """

    path: str
    shape: tuple[int, int]
    rank: int | None
    bytes_before: int | None
    bytes_after: int | None
    ms_before: float | None
    ms_after: float | None
    reason: str


@dataclasses.dataclass(frozen=True, repr=False)
class Factorized(TableResult):
    """The ``model`` that :func:`factorize` made, and what it found of each layer; prints as a table."""

    model: keras.Model
    layers: tuple[LayerFactors, ...]

    _headings: ClassVar[tuple[str, ...]] = ("layer", "kernel", "rank", "bytes", "after", "ms", "after", "result")
    _left = (0, 7)

    def to_dict(self) -> PlainDict:
        """Plain values: all but the model."""
        return plain({"layers": [vars(layer) for layer in self.layers]})

    def _headline(self) -> str:
        return f"{len(self._marked())} of {len(self.layers)} layers factorized"

    def _caption(self) -> str:
        return self._headline()

    def _marked(self) -> list[int]:
        return [number for number, layer in enumerate(self.layers) if not layer.reason]

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for layer in self.layers:
            figures = [layer.bytes_before, layer.bytes_after]
            times = [layer.ms_before, layer.ms_after]
            rows.append((
                layer.path, f"{layer.shape[0]} x {layer.shape[1]}", "" if layer.rank is None else str(layer.rank),
                *("" if figure is None else f"{figure:,}" for figure in figures),
                *("" if time is None else f"{time:.4f}" for time in times),
                layer.reason or "factorized",
            ))  # fmt: skip
        return rows


def factorize(
    model: keras.Model, config: FactorizeConfig | None = None, **options: Unpack[FactorizeOptions]
) -> Factorized:
    """Replace dense layers, convolutions of single pixels and EinsumDense layers by two smaller ones where that pays.

    A kernel of shape (m, n) becomes one of (m, r) and one of (r, n), from a truncated singular value decomposition.
    Each is tried alone: the layer and its two parts are converted and measured, and taken only where the file is
    smaller or faster. Few layers gain: wide ones of low rank. Train the result again; regularizers and constraints of
    the kernel are left out.

    Args:
        model: A built Sequential or functional model, or one of a class of its own that is a graph, as KerasHub's are;
            of blocks (layers made of layers) those inside are factorized too, if their code can be read. It is not
            changed.
        config: A :class:`FactorizeConfig`; or pass its fields as keyword arguments, which override it.

    Returns:
        A :class:`Factorized`: ``model``, a copy in which a nested model of the layer's name stands for it, and for each
            block around it; and a table.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: It is not built or compressed, or the settings or data do not fit.

    Reference:
        E. Denton et al., "Exploiting Linear Structure Within Convolutional Networks for Efficient Evaluation", NeurIPS
        2014, arXiv:1404.0736.

    Example:
        >>> import keras, tfgreen as tg
        >>> wide = keras.layers.Dense(512, name="wide")
        >>> model = keras.Sequential([keras.Input((512,)), wide, keras.layers.Dense(3, name="out")])
        >>> left = keras.random.normal((512, 4), seed=0)
        >>> _ = wide.kernel.assign(left @ keras.ops.transpose(left))
        >>> result = tg.factorize(model, measure="bytes")
        >>> [(layer.path, layer.rank, layer.reason) for layer in result.layers][0], result.model.count_params()
        (('wide', 4, ''), 6147)
    """
    check_built_model(model)
    config = resolve_config(FactorizeConfig, config, options)
    if compressed_layers(model):
        raise invalid_state(f"model '{model.name}' is compressed.", "Factorize it before, or pass tg.strip(model).")
    graph = opened(model)
    found = dict(replaceable_layers(graph))
    paths = [above for path in found for above in paths_to(path)]
    kept = with_aliases(dict.fromkeys(config.keep), paths, paths_by_name(model))
    for pattern in kept:
        check_matches("keep", pattern, list(dict.fromkeys(paths)))
    candidates = {
        path: layer
        for path, layer in found.items()
        if can_be_factorized(layer) and not any(fnmatch.filter(paths_to(path), pattern) for pattern in kept)
    }
    grams, shapes, ran = _inputs(graph, candidates, config)
    results: list[LayerFactors] = []
    taken: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for path, layer in candidates.items():
        matrix = KernelRows(layer).matrix()
        if matrix.size < _SMALL:
            reason = "its kernel is too small for two to be smaller or faster"
            results.append(LayerFactors(path, matrix.shape, None, None, None, None, None, reason))
            continue
        nearest = LowRank(matrix, grams.get(path))
        rank = config.rank or nearest.rank_of(config.energy)
        if rank * sum(matrix.shape) >= matrix.size:
            reason = f"rank {rank} would take more weights"
            results.append(LayerFactors(path, matrix.shape, rank, None, None, None, None, reason))
            continue
        shape = ran.get(path, shapes[path])
        if None in shape[1:] and config.measure != "bytes":
            reason = "its latency depends on a size that is open: pass calibration_data, or measure='bytes'"
            results.append(LayerFactors(path, matrix.shape, rank, None, None, None, None, reason))
            continue
        factors = nearest.factors(rank)
        parts = [_alone(layer, shape), factorized(layer, *factors, shape)]
        files = [to_lite(part, config.quantization, _random_inputs(part)) for part in parts]
        sizes, times = [file.size_bytes for file in files], dict[int, float]()
        if None not in shape[1:]:
            times = latencies_ms(dict(enumerate(files)), config.threads, runs=_RUNS)
        reason = _reason(sizes, times, config.measure)
        results.append(LayerFactors(path, matrix.shape, rank, sizes[0], sizes[1], times.get(0), times.get(1), reason))
        if not reason:
            taken[path] = factors

    def replace(path: str, layer: keras.Layer) -> keras.Layer:
        return factorized(layer, *taken[path], shapes[path]) if path in taken else layer

    around = {above for path in taken for above in paths_to(path)}
    graph = opened(model, lambda path: path not in around) if taken else model
    return Factorized(rebuild(graph, replace), tuple(results))


def _inputs(
    model: keras.Model, candidates: Mapping[str, keras.Layer], config: FactorizeConfig
) -> tuple[dict[str, np.ndarray], dict[str, Shape], dict[str, Shape]]:
    """The mean of the products of the rows that each layer takes in, if there is data, the shape of its inputs, and
    that with which they came."""
    shapes: dict[str, Shape] = {}
    for node in LayerGraph(model).nodes:
        if node.path in candidates:
            shape = node.input_shapes[0]
            pairs = zip(shape, shapes.get(node.path, shape), strict=True)
            shapes[node.path] = tuple(size if size == other else None for size, other in pairs)
    if config.calibration_data is None:
        return {}, shapes, {}
    paths = {id(layer): path for path, layer in candidates.items()}
    views = {path: KernelRows(layer) for path, layer in candidates.items()}
    sums: dict[str, np.ndarray] = {}
    ran: dict[str, Shape] = {}
    counts: dict[str, int] = {}
    rng = np.random.default_rng(0)

    def around(layer: keras.Layer, call: Around, /, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        path = paths[id(layer)]
        total = views[path].count(tuple(x.shape))
        places = rng.choice(total, min(total, _ROWS), replace=False)
        (counted,), _ = padding.removed(path, (x,), {})
        rows = views[path].take(np.asarray(counted, np.float64), places)
        sums[path] = sums.get(path, 0) + rows.T @ rows
        counts[path] = counts.get(path, 0) + len(rows)
        ran[path] = (shapes[path][0], *x.shape[1:])
        return call(x, *args, **kwargs)

    spec = read_call_spec(model)
    with around_calls(candidates.values(), around):
        for batch in sample_batches(config.calibration_data, spec):
            padding = Padding(spec, batch)
            call_model(model, spec, batch)
    return {path: total / counts[path] for path, total in sums.items()}, shapes, ran


def _alone(layer: keras.Layer, shape: Shape) -> keras.Model:
    """A copy of a layer as a model."""
    inputs = keras.Input(batch_shape=shape)
    return keras.Model(inputs, Copies().of(layer)(inputs))


def _random_inputs(model: keras.Model) -> dict[str, np.ndarray]:
    """What calibrates the file of a layer alone: its size and latency do not depend on it."""
    shape = (32, *(size or 1 for size in model.input_shape[1:]))
    return {read_call_spec(model).inputs[0].name: np.random.default_rng(0).normal(size=shape).astype("float32")}


def _reason(sizes: list[int], times: Mapping[int, float], measure: Measure) -> str:
    """Why the two layers are not better than the one, or ""."""
    shares = {"bytes": sizes[1] / sizes[0]} | ({"latency": times[1] / times[0]} if times else {})
    if measure != "both":
        what = "its file is not smaller" if measure == "bytes" else "it is not faster"
        return "" if shares[measure] <= 1 - _GAIN else what
    worse = [name for name, share in shares.items() if share > 1 + _GAIN]
    if worse:
        return "its file is larger" if worse == ["bytes"] else "it is slower"
    return "" if min(shares.values()) <= 1 - _GAIN else "it is neither smaller nor faster"
