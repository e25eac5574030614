"""Measure this machine: how fast LiteRT's kernels multiply, add and read memory here, on one thread.

Each figure is the median time of a small file of a few equal operators, written here, so that nothing is converted.
"""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
from ai_edge_litert.interpreter import Interpreter

from tfgreen.energy.cpu import cpu_identity, thread_power
from tfgreen.energy.devices.chain import Chain
from tfgreen.typing import PlainDict

_RUNS, _SECONDS = 40, 0.1  # at most, of each file
_FUNCTIONS = {"LOGISTIC": "functions", "SOFTMAX": "SOFTMAX"}  # -> for which operators of a profile each stands


@dataclasses.dataclass(frozen=True)
class Rates:
    """What was measured for a dtype: MACs and numbers per second by operator, elements of an addition per second, the
    channels that a convolution computes at once, and seconds per operator."""

    macs: dict[str, float]
    elements: float
    functions: dict[str, float]
    tile: int
    operator_seconds: float


def measure_rates(dtype: str, bandwidth: float) -> Rates:
    """Measure ``"float32"`` or ``"int8"``, where weights are read at ``bandwidth``; takes about a second."""
    seconds = {steps: _seconds(Chain(dtype, (1, 1, 1, 4)).additions(steps)) for steps in (1, 101)}
    fixed = max((seconds[101] - seconds[1]) / 100, 1e-9)
    shape = (1, 32, 32, 16)
    elements = int(np.prod(shape)) * 8 / _seconds(Chain(dtype, shape).additions(8))
    functions = {
        name: 4 * 64 * 64 * 2 / _seconds(Chain(dtype, (1, 4, 64, 64)).functions(name, 2)) for name in _FUNCTIONS
    }
    chains = {
        "CONV_2D": [
            Chain(dtype, (1, 16, 16, 32)).convolutions(32, 3, 4),
            Chain(dtype, (1, 12, 12, 32)).convolutions(192, 1, 4),
            Chain(dtype, (1, 3, 3, 160)).convolutions(960, 1, 2),
        ],
        "DEPTHWISE_CONV_2D": [Chain(dtype, (1, size, size, 2304 // size)).depthwise(4) for size in (12, 24)],
        "FULLY_CONNECTED": [Chain(dtype, (1, 256)).dense(256, 4)],
        "TRANSPOSE_CONV": [Chain(dtype, (1, 16, 16, 32)).transposed(16, 1)],
        "BATCH_MATMUL": [Chain(dtype, shape).products(2) for shape in ((1, 4, 64, 64), (1, 16, 16, 16))],
    }
    macs = {}
    for name, models in chains.items():
        total = sum(map(_seconds, models))
        beside = sum(x.elements / elements + x.weight_bytes / bandwidth + len(x.operators) * fixed for x in models)
        macs[name] = sum(x.macs for x in models) / max(total - beside, 0.1 * total)
    few, many = (_seconds(Chain(dtype, (1, 16, 16, 32)).convolutions(count, 3, 1)) for count in (2, 32))
    tile = 2 ** min(max(round(math.log2(max(32 * few / many, 1))), 0), 5)
    return Rates(macs, elements, functions, tile, fixed)


def measure_bandwidth(size: int) -> float:
    """Bytes per second at which additions read and write tensors that take ``size`` bytes together."""
    elements = max(size // 16, 1)  # four of them are alive
    return 3 * 4 * 4 * elements / _seconds(Chain("float32", (1, elements)).additions(4))


def measure_weight_bandwidth(size: int, rates: Rates) -> float:
    """Bytes per second at which convolutions read ``size`` bytes of weights, of which each serves nine positions.

    It is what their time exceeds that of the arithmetic by, and less than what additions reach.
    """
    chain = Chain("float32", (1, 3, 3, 160)).convolutions(960, 1, max(size // (4 * 160 * 960), 1))
    seconds = _seconds(chain)
    beside = seconds - chain.macs / rates.macs["CONV_2D"] - chain.elements / rates.elements
    return chain.weight_bytes / max(beside, 0.1 * seconds)


def _seconds(chain: Chain) -> float:
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
    caches = [(f"{level} cache", size) for level, size in cache_sizes().items() if level != "L1"]
    name, size = caches[-1]
    if len(caches) > 1 and size // 8 > caches[-2][1]:  # large and shared: what fits an eighth of it stays there longer
        caches.insert(-1, (f"an eighth of {name}", size // 8))
    names, sizes = [*(name for name, _ in caches), "memory"], [*(size for _, size in caches), 2**28]
    bandwidths = [measure_bandwidth(size // 2) for size in sizes]
    rates = {dtype: measure_rates(dtype, bandwidths[0]) for dtype in ("float32", "int8")}
    for level, size in enumerate(sizes[1:-1], 1):
        bandwidths[level] = min(bandwidths[level], measure_weight_bandwidth(size // 2, rates["float32"]))
    peaks = {dtype: max(rate.macs.values()) for dtype, rate in rates.items()}
    shares = {
        f"{name}, {dtype}": _figure(macs / peaks[dtype], how)
        for dtype, rate in rates.items()
        for name, macs in rate.macs.items()
    }
    shares |= {
        f"{_FUNCTIONS[name]}, {dtype}": _figure(min(1.0, numbers / rate.elements), f"{how}; of elements_per_second")
        for dtype, rate in rates.items()
        for name, numbers in rate.functions.items()
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
        "channel_tile": {dtype: _figure(rate.tile, how) for dtype, rate in rates.items()},
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
