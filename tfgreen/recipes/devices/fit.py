"""Whether a .tflite file can run on a device: its memory and its operators."""

from __future__ import annotations

from tfgreen.deploy.inspection.check_target import check_target
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.energy.devices.cost import level_for
from tfgreen.energy.devices.profile import DeviceProfile
from tfgreen.errors import InvalidValueError


def reasons_not_to_fit(lite: LiteRTModel, profile: DeviceProfile) -> list[str]:
    """Why a file cannot run on a device; empty where it can."""
    return [*_memory(lite, profile), *_operators(lite, profile)]


def _memory(lite: LiteRTModel, profile: DeviceProfile) -> list[str]:
    """What does not fit: the file beside the weights' memory, the arena beside that of activations, or both in one."""
    try:
        arena = lite.arena_bytes.planned_bytes
    except InvalidValueError as error:
        return [f"its arena is not known: {error}"]
    needs = {"weights": lite.size_bytes, "activations": arena}
    total = sum(needs.values())
    found = []
    for kind, size in needs.items():
        level = level_for(profile, kind, 2**62)  # the largest, which comes last
        most, what = level.capacity_bytes.value, "file" if kind == "weights" else "arena"
        if level.holds == "all":
            size, what = total, "file and arena"
        if most is not None and size > most:
            found.append(f"the {what} of {size:,} bytes exceeds {level.level}, {most:,.0f} bytes")
    return list(dict.fromkeys(found))


def _operators(lite: LiteRTModel, profile: DeviceProfile) -> list[str]:
    """The operators, or else the reasons, for which a device cannot run a file."""
    if profile.runtime == "none":
        return ["the profile is a table of energies, no device"]
    if profile.operators is not None:
        return [f"{name} is not among its operators" for name in lite.operators if name not in profile.operators]
    return [str(finding) for finding in check_target(lite, "tflm").errors] if profile.runtime == "tflm" else []
