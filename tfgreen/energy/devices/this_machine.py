"""Measure this machine: how fast LiteRT's kernels multiply, add and read memory here, on one thread.

Each figure is the median time of a small file of a few equal operators, written here, so that nothing is converted.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

from tfgreen.energy.cpu import cpu_identity, thread_power
from tfgreen.typing import PlainDict

_RUNS, _SECONDS = 40, 0.1  # at most, of each file
_SCALE = 0.05
_INT8_VERSIONS = {"ADD": 2, "LOGISTIC": 2, "FULLY_CONNECTED": 4}  # from which on there is an integer kernel; 3 others
_OPERATORS, _TYPES, _OPTIONS = schema.BuiltinOperator, schema.TensorType, schema.BuiltinOptions


@dataclasses.dataclass(frozen=True)
class Rates:
    """What was measured for a dtype: MACs per second by operator, elements per second, seconds per operator."""

    macs: dict[str, float]
    elements: float
    functions: float
    operator_seconds: float


def measure_rates(dtype: str, bandwidth: float) -> Rates:
    """Measure ``"float32"`` or ``"int8"``, where weights are read at ``bandwidth``; takes about a second."""
    seconds = {steps: _seconds(_Chain(dtype, (1, 1, 1, 4)).additions(steps)) for steps in (1, 101)}
    fixed = max((seconds[101] - seconds[1]) / 100, 1e-9)
    shape = (1, 32, 32, 16)
    elements = int(np.prod(shape)) * 8 / _seconds(_Chain(dtype, shape).additions(8))
    functions = int(np.prod(shape)) * 4 / _seconds(_Chain(dtype, shape).functions(4))
    chains = {
        "CONV_2D": [
            _Chain(dtype, (1, 16, 16, 32)).convolutions(32, 3, 4),
            _Chain(dtype, (1, 12, 12, 32)).convolutions(192, 1, 4),
            _Chain(dtype, (1, 3, 3, 160)).convolutions(960, 1, 2),
        ],
        "DEPTHWISE_CONV_2D": [_Chain(dtype, (1, size, size, 2304 // size)).depthwise(4) for size in (12, 24)],
        "FULLY_CONNECTED": [_Chain(dtype, (1, 256)).dense(256, 4)],
    }
    macs = {}
    for name, models in chains.items():
        total = sum(map(_seconds, models))
        beside = sum(x.elements / elements + x.weight_bytes / bandwidth + len(x.operators) * fixed for x in models)
        macs[name] = sum(x.macs for x in models) / max(total - beside, 0.1 * total)
    return Rates(macs, elements, functions, fixed)


def measure_bandwidth(size: int) -> float:
    """Bytes per second at which additions read and write tensors that take ``size`` bytes together."""
    elements = max(size // 16, 1)  # four of them are alive
    return 3 * 4 * 4 * elements / _seconds(_Chain("float32", (1, elements)).additions(4))


class _Chain:
    """A file of one operator after the other, and what it computes."""

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = dtype, shape
        self.macs = self.elements = self.weight_bytes = 0
        self.tensors: list[schema.TensorT] = []
        self.buffers = [schema.BufferT()]
        self.operators: list[schema.OperatorT] = []
        self.codes: list[schema.OperatorCodeT] = []
        self.last = self._tensor(shape)

    def additions(self, count: int) -> _Chain:
        for _ in range(count):
            self._step("ADD", [self.last, 0], self.shape, schema.AddOptionsT())
        return self

    def functions(self, count: int) -> _Chain:
        """Sigmoids; the result of an integer one has a scale of its own."""
        for _ in range(count):
            self._step("LOGISTIC", [self.last], self.shape, None, (1 / 256, -128))
        return self

    def convolutions(self, channels: int, kernel: int, count: int) -> _Chain:
        for number in range(count):
            before = self._shape(self.last)
            after = (*before[:-1], channels if number % 2 == 0 else self.shape[-1])
            options = schema.Conv2DOptionsT(strideW=1, strideH=1, fusedActivationFunction=1)
            weights = self._weights((after[-1], kernel, kernel, before[-1]), axis=0)
            self._step("CONV_2D", [self.last, *weights], after, options)
            self.macs += int(np.prod(after)) * kernel**2 * before[-1]
        return self

    def depthwise(self, count: int) -> _Chain:
        for _ in range(count):
            options = schema.DepthwiseConv2DOptionsT(
                strideW=1, strideH=1, depthMultiplier=1, fusedActivationFunction=1
            )
            weights = self._weights((1, 3, 3, self.shape[-1]), axis=3)
            self._step("DEPTHWISE_CONV_2D", [self.last, *weights], self.shape, options)
            self.macs += int(np.prod(self.shape)) * 9
        return self

    def dense(self, units: int, count: int) -> _Chain:
        for _ in range(count):
            before = self._shape(self.last)
            inputs = [self.last, *self._weights((units, before[-1]))]
            self._step("FULLY_CONNECTED", inputs, (1, units), schema.FullyConnectedOptionsT())
            self.macs += units * before[-1]
        return self

    def content(self) -> bytes:
        """The bytes of the file."""
        graph = schema.SubGraphT(self.tensors, [0], [self.last], self.operators)
        return bytes(convert_object_to_bytearray(schema.ModelT(3, self.codes, [graph], buffers=self.buffers)))

    def _step(
        self,
        name: str,
        inputs: list[int],
        shape: tuple[int, ...],
        options: object,
        scale: tuple[float, int] | None = None,
    ) -> None:
        code = getattr(_OPERATORS, name)
        version = _INT8_VERSIONS.get(name, 3) if self.dtype == "int8" else 1
        self.codes.append(schema.OperatorCodeT(code, version=version, builtinCode=code))
        kind = 0 if options is None else getattr(_OPTIONS, type(options).__name__.removesuffix("T"))
        output = self._tensor(shape, scale)
        self.operators.append(schema.OperatorT(len(self.codes) - 1, inputs, [output], kind, options))
        self.last = output
        self.elements += int(np.prod(shape))

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self.tensors[tensor].shape)

    def _tensor(self, shape: tuple[int, ...], scale: tuple[float, int] | None = None) -> int:
        tensor = schema.TensorT(list(shape), name=f"tensor {len(self.tensors)}", type=_TYPES.FLOAT32)
        if self.dtype == "int8":
            tensor.type, (step, zero) = _TYPES.INT8, scale or (_SCALE, 0)
            tensor.quantization = schema.QuantizationParametersT(scale=[step], zeroPoint=[zero])
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _weights(self, shape: tuple[int, ...], axis: int | None = None) -> list[int]:
        """A kernel of small random numbers and a bias of 0."""
        rng, count = np.random.default_rng(0), shape[0 if axis is None else axis]
        kernel: np.ndarray = rng.standard_normal(shape, np.float32) / 100
        bias: np.ndarray = np.zeros(count, np.float32)
        if self.dtype == "int8":
            kernel, bias = rng.integers(-127, 128, shape, np.int8), np.zeros(count, np.int32)
        found = []
        for values, scale in ((kernel, 0.01), (bias, 0.01 * _SCALE)):
            place = self._tensor(values.shape)
            tensor = self.tensors[place]
            tensor.buffer = len(self.buffers)
            self.weight_bytes += values.nbytes
            self.buffers.append(schema.BufferT(np.frombuffer(values.tobytes(), np.uint8)))
            if self.dtype == "int8":
                scales = [scale] * (1 if axis is None else count)
                quantized = 0 if values.ndim == 1 or axis is None else axis
                tensor.type = _TYPES.INT32 if values.dtype == np.int32 else _TYPES.INT8
                tensor.quantization = schema.QuantizationParametersT(
                    scale=scales, zeroPoint=[0] * len(scales), quantizedDimension=quantized
                )
            found.append(place)
        return found


def _seconds(chain: _Chain) -> float:
    """The median of some runs, on one thread."""
    interpreter = Interpreter(model_content=chain.content(), num_threads=1)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.ones(detail["shape"], detail["dtype"]))
    times: list[float] = []
    for _ in range(3):
        interpreter.invoke()
    while len(times) < 5 or (len(times) < _RUNS and sum(times) < _SECONDS):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def cache_sizes() -> dict[str, int]:
    """Bytes of the caches of the first processor that hold data, by level, as Linux reports them; else usual sizes."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        texts = {name: (folder / name).read_text().strip() for name in ("level", "type", "size")}
        if texts["type"] != "Instruction" and texts["size"].endswith("K"):
            found[f"L{texts['level']}"] = 1024 * int(texts["size"][:-1])
    return found or {"L2": 2**20, "L3": 2**25}


def measured_profile() -> PlainDict:
    """The fields of a profile of this machine, on one thread; what cannot be measured here is unknown or assumed."""
    how = f"measured: LiteRT {version('ai-edge-litert')}, 1 thread, files of a few operators"
    cpu = cpu_identity()
    sizes = [*(size for level, size in cache_sizes().items() if level != "L1"), 2**28]
    names = [f"{level} cache" for level in cache_sizes() if level != "L1"] + ["memory"]
    bandwidths = [measure_bandwidth(size // 2) for size in sizes]
    rates = {dtype: measure_rates(dtype, bandwidths[0]) for dtype in ("float32", "int8")}
    peaks = {dtype: max(rate.macs.values()) for dtype, rate in rates.items()}
    shares = {
        f"{name}, {dtype}": _figure(macs / peaks[dtype], how)
        for dtype, rate in rates.items()
        for name, macs in rate.macs.items()
    }
    shares |= {
        f"functions, {dtype}": _figure(rate.functions / rate.elements, f"{how}; of elements_per_second")
        for dtype, rate in rates.items()
    }
    slowest = {dtype: min(rate.macs.values()) / peaks[dtype] for dtype, rate in rates.items()}
    least = "assumption: as the slowest that was measured"
    shares |= {f"other, {dtype}": _figure(share, least) for dtype, share in slowest.items()}
    sizes[-1] = psutil.virtual_memory().total
    memory = [_level(name, size, rate, how) for name, size, rate in zip(names, sizes, bandwidths)]
    power = thread_power()
    peak_watts = power.watts
    base, unknown = 0.5 * peak_watts, _figure(None, "unknown: not measured here")
    half = "assumption: half of the watts of a busy thread"
    return {
        "name": "this-machine",
        "title": f"{cpu.model}, one thread",
        "node": "",
        "year": time.gmtime().tm_year,
        "table": how,
        "runtime": "litert",
        "operators": None,
        "skips_zeros": "never" if platform.machine().lower() in ("x86_64", "amd64") else "sparse kernels",
        "macs_per_second": {dtype: _figure(peak, how) for dtype, peak in peaks.items()},
        "achievable_share": shares,
        "elements_per_second": {dtype: _figure(rate.elements, how) for dtype, rate in rates.items()},
        "operator_seconds": _figure(rates["float32"].operator_seconds, how),
        "memory": memory,
        "picojoules_per_mac": {
            dtype: _figure((peak_watts - base) / peak * 1e12, f"{half}, over macs_per_second")
            for dtype, peak in peaks.items()
        },
        "base_watts": _figure(base, half),
        "peak_watts": _figure(peak_watts, f"assumption: {power.how}"),
        "price_usd": unknown,
        "embodied_kg": unknown,
        "lifetime_years": unknown,
    }


def _level(name: str, size: int, rate: float, how: str) -> PlainDict:
    return {
        "level": name,
        "holds": "all",
        "capacity_bytes": _figure(size, "reported by the system"),
        "bytes_per_second": _figure(rate, how),
        "picojoules_per_byte": _figure(0.0, "included in base_watts, an estimate of the whole"),
    }


def _figure(value: float | None, source: str) -> PlainDict:
    return {"value": value, "source": source}
