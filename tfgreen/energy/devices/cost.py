"""What the work of a model takes on a device: seconds by a roofline, joules by energies per operation.

    seconds of an operator = fixed cost + bytes of weights / bandwidth
                             + max(MACs / (peak x share) + elements / their rate, bytes of activations / bandwidth)
    joules = MACs x energy per MAC + bytes x energy per byte of the level that holds them + base power x seconds

The roofline: Williams, Waterman, Patterson, Communications of the ACM 52 (4), 2009. The three terms of the energy:
Choi, Bedard, Fowler, Vuduc, A Roofline Model of Energy, IPDPS 2013.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from tfgreen.energy.devices.figures import DeviceFigure, MemoryLevel
from tfgreen.energy.devices.profile import DeviceProfile
from tfgreen.energy.devices.work import LayerWork, ModelWork
from tfgreen.errors import invalid_value

# Operators that compute a function of each number: of elements_per_second they reach the share of "functions", if none
# of their own is known.
_FUNCTIONS = "LOGISTIC SOFTMAX LOG_SOFTMAX TANH EXP GELU ELU SIN COS LOG RSQRT SQRT DIV L2_NORMALIZATION".split()


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """What a layer takes: ``seconds`` is None where the device has no speeds; ``levels`` holds its bytes by level."""

    work: LayerWork
    macs: float
    seconds: float | None
    compute_joules: float
    traffic_joules: float
    levels: Mapping[str, int]


def layer_costs(work: ModelWork, profile: DeviceProfile) -> list[LayerCost]:
    """The cost of every layer.

    A tensor is read or written once per operator, in the nearest level that is large enough: for activations those of
    the operator, for weights those of the whole model, which come round once per inference.

    Raises:
        ValueError: The profile has no figure for a dtype.
    """
    return [_layer_cost(layer, work, profile) for layer in work.layers]


def level_for(profile: DeviceProfile, kind: str, size: int) -> MemoryLevel:
    """The nearest level of a device that holds ``size`` bytes of ``"weights"`` or ``"activations"``, or the last."""
    levels = [level for level in profile.memory if level.holds in ("all", kind)] or list(profile.memory)
    capacities = [level.capacity_bytes.value for level in levels]
    fitting = [level for level, most in zip(levels, capacities) if most is None or size <= most]
    return fitting[0] if fitting else levels[-1]


def _layer_cost(layer: LayerWork, work: ModelWork, profile: DeviceProfile) -> LayerCost:
    skipped = {"never": 0.0, "always": layer.zero_share}.get(profile.skips_zeros, 1 - layer.nonzero_share)
    macs, weight_bytes = layer.macs * (1 - skipped), round(layer.weight_bytes * (1 - skipped))
    places = [
        (level_for(profile, "weights", work.weight_bytes), weight_bytes),
        (level_for(profile, "activations", layer.activation_bytes), layer.activation_bytes),
    ]
    levels = dict[str, int]()
    for level, size in places:
        levels[level.level] = levels.get(level.level, 0) + size
    compute = macs * _of_dtype(profile, "picojoules_per_mac", layer) * 1e-12 if macs else 0.0
    traffic = sum(size * (level.picojoules_per_byte.value or 0.0) for level, size in places) * 1e-12
    return LayerCost(layer, macs, _seconds(layer, macs, places, profile), compute, traffic, levels)


def _seconds(
    layer: LayerWork, macs: float, places: list[tuple[MemoryLevel, int]], profile: DeviceProfile
) -> float | None:
    if not profile.macs_per_second:
        return None
    arithmetic = 0.0
    if macs:
        peak = _of_dtype(profile, "macs_per_second", layer)
        arithmetic = _padded(macs, layer, profile) / (peak * _share(profile, layer.operator, layer.dtype))
    read, moved = (size / (level.bytes_per_second.value or math.inf) for level, size in places)
    rates = profile.elements_per_second
    beside = layer.elements / _of_dtype(profile, "elements_per_second", layer) if rates else 0.0
    if not macs:
        otherwise = _share(profile, "functions", layer.dtype, 1.0) if layer.operator in _FUNCTIONS else 1.0
        beside /= _share(profile, layer.operator, layer.dtype, otherwise)
    return (profile.operator_seconds.value or 0.0) + read + max(arithmetic + beside, moved)


def _padded(macs: float, layer: LayerWork, profile: DeviceProfile) -> float:
    """The products that a kernel carries out, which computes the channels of a result in groups of a fixed size."""
    tile = profile.channel_tile[layer.dtype].value if layer.dtype in profile.channel_tile else None
    if not tile or not layer.channels or layer.operator in ("DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        return macs
    return macs * math.ceil(layer.channels / tile) * tile / layer.channels


def _share(profile: DeviceProfile, operator: str, dtype: str, otherwise: float | None = None) -> float:
    shares = profile.achievable_share
    names = (f"{operator}, {dtype}", operator, *(["other"] if otherwise is None else []))
    found = next((shares[name].value for name in names if name in shares), None)
    return next((share for share in (found, otherwise) if share is not None), 1.0)


def _of_dtype(profile: DeviceProfile, field: str, layer: LayerWork) -> float:
    figures: Mapping[str, DeviceFigure] = getattr(profile, field)
    known = {dtype: figure.value for dtype, figure in figures.items() if figure.value}
    if layer.dtype not in known:
        raise invalid_value(
            f"device profile '{profile.name}', {field}",
            expected=f"a figure for {layer.dtype}, in which {layer.where} computes",
            received=", ".join(known) or "none",
            fix="Give the profile one, or convert the model to a dtype that the device has.",
        )
    value = known[layer.dtype]
    return 0.0 if value is None else value
