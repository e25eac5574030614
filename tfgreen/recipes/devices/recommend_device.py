"""recommend_device: what a model would take on each device, where it fits, and which device to choose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from tfgreen.checks import check_instance, check_number, check_option
from tfgreen.config import check_options, named_options
from tfgreen.deploy.inspection.benchmark import benchmark
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.energy.carbon.grid import JOULES_PER_KWH, grid_intensity
from tfgreen.energy.devices.profile import DeviceProfile, device_names
from tfgreen.energy.devices.work import ModelWork
from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.recipes.devices.choose import LIMITS, PREFERENCES, DeviceEstimate, Preference, beyond, choose, least
from tfgreen.recipes.devices.estimate_energy import THIS_MACHINE, estimate, read_profile
from tfgreen.recipes.devices.file_work import file_work
from tfgreen.recipes.devices.fit import reasons_not_to_fit
from tfgreen.tables import TableResult
from tfgreen.typing import FilePath, PlainDict, Shape

if TYPE_CHECKING:
    import keras

AnyDevice: TypeAlias = "FilePath | DeviceProfile | PlainDict"

_CLOSE = 0.3  # how far an estimate may be from what was measured, as a share of it
_SECONDS_PER_YEAR = 365.25 * 86400


@dataclasses.dataclass(frozen=True, repr=False)
class DeviceRecommendation(TableResult):
    """What a model takes on each device, and the one to choose; prints as a table and the reason.

    Attributes:
        estimates: A :class:`DeviceEstimate` for each device.
        choice: The name of the device to choose; None where none fits and meets the constraints, or where of several
            that do what is preferred is not known.
        reason: Why; where none does, the closest, and the constraint that is in its way.
        shapes: Input name -> shape of the inference.
        notes: How it was estimated; for this machine, how far that is from a measured latency.
    """

    estimates: tuple[DeviceEstimate, ...]
    choice: str | None
    reason: str
    shapes: Mapping[str, Shape]
    notes: tuple[str, ...]

    _headings: ClassVar[tuple[str, ...]] = ("device", "ms", "mJ", "kg CO2e", "embodied kg", "USD", "fits")
    _left = (0, 6)

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for row in self.estimates:
            joules = None if row.joules is None else row.joules * 1e3
            figures = (row.latency_ms, joules, row.operational_kg, row.embodied_kg, row.price_usd)
            texts = ("-" if figure is None else f"{figure:.4g}" for figure in figures)
            fits = "; ".join(["yes", *beyond(row)]) if row.fits else f"no: {'; '.join(row.blocked)}"
            rows.append((row.device, *texts, fits))
        return rows

    def _remarks(self) -> list[str]:
        sizes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes.items())
        return [self.reason, f"estimated, per inference of inputs {sizes}", *self.notes]

    def _marked(self) -> list[int]:
        return [number for number, row in enumerate(self.estimates) if row.device == self.choice]

    def _headline(self) -> str:
        return f"{self.choice or 'no device'}, of {len(self.estimates)}"


@named_options
def recommend_device(
    model: keras.Model | LiteRTModel,
    devices: Sequence[AnyDevice] | None = None,
    *,
    constraints: Mapping[str, float] | None = None,
    region: str | None = None,
    prefer: Preference = "energy",
) -> DeviceRecommendation:
    """Estimate what an inference takes on each device, say where the model fits, and choose the greenest that does.

    Latency is a roofline for each operator and a fixed cost; energy as in :func:`tfgreen.estimate_energy`. Whether the
    model fits is read off the file: its size, its arena, its operators and dtypes. All of it is estimated: before you
    buy, measure. Where ``"this-machine"`` is among the devices, its estimate is checked against a measured latency.

    Args:
        model: A .tflite file, or a Keras model, which is converted to float32.
        devices: Names of profiles, paths of their .json files, profiles, or their fields in dicts, each device once;
            None for all that tfgreen brings.
        constraints: ``"latency_ms"``, ``"joules"`` (per inference) or ``"price_usd"`` -> the most that is allowed.
        region: ISO 3166-1 alpha-3 code of the country whose grid feeds the device; None for no carbon of electricity.
        prefer: What is to be least: ``"energy"``, ``"carbon"`` (needs a region), ``"latency"`` or ``"price"``.

    Raises:
        TypeError: ``model`` is neither of the two, or an option is of a wrong type.
        ValueError: An option cannot be used, there is no such device, or the model's cost cannot be counted.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((64,), name="x"), keras.layers.Dense(8, name="out")])
        >>> found = tg.recommend_device(model, constraints={"price_usd": 100})
        >>> found.choice, [row.fits for row in found.estimates]
        ('cortex-m4-stm32l4r5', [True, True, True, True])
        >>> print(found.reason)
        cortex-m4-stm32l4r5: the only one of 4 that fits and meets price_usd <= 100.
    """
    limits = dict(constraints or {})
    check_options(limits, list(LIMITS), "constraint")
    for name, limit in limits.items():
        check_number(f"constraints['{name}']", limit, above=0)
    check_option("prefer", prefer, PREFERENCES)
    if prefer == "carbon" and region is None:
        raise invalid_value("region", expected="a country, because prefer is 'carbon'", received=None)
    grid = None if region is None else grid_intensity(region)
    intensity = None if grid is None else grid.kg_per_kwh
    profiles = [read_profile(device) for device in _devices(devices)]
    if not profiles:
        raise invalid_value("devices", expected="at least one", received="none")
    names = [profile.name for profile in profiles]
    if twice := [name for name in names if names.count(name) > 1]:
        fix = "A profile of your own needs a name of its own."
        raise invalid_value("devices", expected="each device once", received=f"'{twice[0]}' twice", fix=fix)
    notes = ["the figures of a profile, and which are assumptions: print(tg.DeviceProfile.named(name))"]
    if not isinstance(model, LiteRTModel):
        from tfgreen.deploy.convert import convert  # brings Keras, which a file needs none of

        model = convert(model)
        notes.append("the Keras model was converted to float32; convert it to int8 for what that takes")
    work = file_work(model)
    rows = [_estimate(model, work, profile, intensity, limits) for profile in profiles]
    choice, reason = choose(rows, limits, prefer)
    notes += [_checked(model, row) for row in rows if row.device == THIS_MACHINE and row.latency_ms]
    if grid is not None:
        notes.append(f"grid: {grid.origin}")
    return DeviceRecommendation(tuple(rows), choice, reason, work.shapes, tuple(notes))


def _devices(devices: Iterable[AnyDevice] | None) -> Sequence[AnyDevice]:
    if devices is None:
        return [name for name in device_names() if DeviceProfile.named(name).runtime != "none"]
    check_instance("devices", devices, (list, tuple), "a list of devices, or None")
    return list(devices)


def _estimate(
    lite: LiteRTModel, work: ModelWork, profile: DeviceProfile, intensity: float | None, limits: Mapping[str, float]
) -> DeviceEstimate:
    blocked = reasons_not_to_fit(lite, profile)
    seconds = joules = None
    try:
        energy = estimate(work, profile)
        seconds = energy.seconds
        joules = None if energy.base_joules is None else energy.joules
    except InvalidValueError as error:  # a dtype that it has no figures for
        blocked.append(str(error).rstrip("."))
    life, embodied = profile.lifetime_years.value, profile.embodied_kg.value
    row = DeviceEstimate(
        profile.name,
        None if seconds is None else seconds * 1e3,
        joules,
        None if joules is None or intensity is None else joules / JOULES_PER_KWH * intensity,
        embodied * seconds / (life * _SECONDS_PER_YEAR) if embodied is not None and life and seconds else None,
        profile.price_usd.value,
        tuple(blocked),
        {},
    )
    factors = {name: least(row, field) / limits[name] for name, field in LIMITS.items() if name in limits}
    return dataclasses.replace(row, exceeded={name: factor for name, factor in factors.items() if factor > 1})


def _checked(lite: LiteRTModel, row: DeviceEstimate) -> str:
    """How far the estimate for this machine is from what is measured on it."""
    measured = benchmark(lite).median_ms
    ratio = (row.latency_ms or 0.0) / measured
    verdict = "within 30 % of it" if abs(ratio - 1) <= _CLOSE else "NOT within 30 %: trust no estimate here"
    return f"checked on this machine, 1 thread: estimated {row.latency_ms:.4g} ms, measured {measured:.4g}; {verdict}"
