"""Device profiles: what a device can do, draws and costs, each figure with its source; read from data files."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

from ai_edge_litert.schema_py_generated import BuiltinOperator

from tfgreen.checks import check_instance, check_integer, check_number, check_option
from tfgreen.energy.devices.figures import DeviceFigure, MemoryLevel, check_fields, read_figure, read_level
from tfgreen.errors import FileError, invalid_value
from tfgreen.files import reading
from tfgreen.tables import TableResult, plain
from tfgreen.typing import FilePath, PlainDict

DTYPES = ("float32", "float16", "bfloat16", "int8", "int16")
FOLDER = Path(__file__).parent
_ZEROS = ("never", "sparse kernels", "always")
_RUNTIMES = ("litert", "tflm", "none")


@dataclasses.dataclass(frozen=True, repr=False)
class DeviceProfile(TableResult):
    """What a device can do, draws and costs; prints as a table with the source of every figure.

    Attributes:
        name: What :func:`tfgreen.estimate_energy` and :func:`tfgreen.recommend_device` know it by.
        title: What it is, in words.
        node: The process that its chip is made in, such as ``"45 nm"``, or "".
        year: The year of the chip, or of the table of energies.
        table: The publication that most of the figures are from.
        runtime: What runs a .tflite file there: ``"litert"`` (all built-in operators), ``"tflm"`` (LiteRT for
            Microcontrollers), or ``"none"``: the profile is a table of energies, no device.
        operators: The operators that it can run, by LiteRT's names; None for all of the runtime's.
        skips_zeros: When a kernel spends nothing on weights that are 0: ``"never"``, ``"sparse kernels"`` (where
            weights are stored sparse and XNNPACK has a sparse kernel for the file), or ``"always"``.
        macs_per_second: dtype -> multiply-accumulates per second at most.
        achievable_share: Operator -> the share of that which its kernels reach; ``"other"`` for those not named.
        channel_tile: dtype -> how many channels of a result a kernel computes at once; fewer take as long.
        elements_per_second: dtype -> numbers per second that an activation function, an addition or the rounding of a
            result takes beside the multiply-accumulates.
        operator_seconds: The fixed cost of an operator.
        memory: :class:`MemoryLevel`, the nearest first.
        picojoules_per_mac: dtype -> energy of one multiply-accumulate.
        base_watts: What it draws while it runs, beside arithmetic and traffic.
        peak_watts: What it draws at its fastest.
        price_usd: What it costs.
        embodied_kg: Kilograms of CO2 equivalent of making it.
        lifetime_years: For how long it is in use.

    Example:
        >>> import tfgreen as tg
        >>> profile = tg.DeviceProfile.named("horowitz-45nm")
        >>> profile.picojoules_per_mac["float32"].value, profile.node, profile.year
        (4.6, '45 nm', 2014)
        >>> print(profile.memory[0].level, profile.memory[0].picojoules_per_byte.value)
        8 KB cache 1.25
        >>> data = profile.to_dict()
        >>> del data["year"]
        >>> tg.DeviceProfile.from_dict(data)
        Traceback (most recent call last):
        ...
        tfgreen.errors.InvalidValueError: device profile 'horowitz-45nm': the field 'year' is missing.
    """

    name: str
    title: str
    node: str
    year: int
    table: str
    runtime: str
    operators: tuple[str, ...] | None
    skips_zeros: str
    macs_per_second: Mapping[str, DeviceFigure]
    achievable_share: Mapping[str, DeviceFigure]
    channel_tile: Mapping[str, DeviceFigure]
    elements_per_second: Mapping[str, DeviceFigure]
    operator_seconds: DeviceFigure
    memory: tuple[MemoryLevel, ...]
    picojoules_per_mac: Mapping[str, DeviceFigure]
    base_watts: DeviceFigure
    peak_watts: DeviceFigure
    price_usd: DeviceFigure
    embodied_kg: DeviceFigure
    lifetime_years: DeviceFigure

    _headings: ClassVar[tuple[str, ...]] = ("figure", "value", "source")
    _left: ClassVar[Collection[int]] = (0, 2)

    @classmethod
    def named(cls, name: str) -> DeviceProfile:
        """The profile of this name that tfgreen brings; raises ``ValueError`` with near names for another."""
        check_instance("device", name, str, "the name of a device")
        if name not in device_names():
            raise invalid_value("device", expected=_listed(device_names()), received=repr(name), fix=_near(name))
        return cls.from_file(FOLDER / f"{name}.json")

    @classmethod
    def of_this_machine(cls) -> DeviceProfile:
        """Measure a profile of this machine in a few seconds: LiteRT's kernels on one thread, as they run here.

        Speeds are measured; watts are estimated, as :class:`tfgreen.EnergyMeter` does without a counter.
        """
        from tfgreen.energy.devices.this_machine import measured_profile  # brings LiteRT

        return cls.from_dict(measured_profile())

    @classmethod
    def from_file(cls, path: FilePath) -> DeviceProfile:
        """Read a profile from a JSON file with the fields of this class; :meth:`to_dict` shows how one looks.

        Raises:
            FileError: The file cannot be read, or holds no JSON.
            ValueError: A field is missing, unknown, or not what it should be.
        """
        with reading(path):
            text = Path(path).read_text(encoding="utf-8")
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as error:
            raise FileError(f"{path}: expected a device profile in JSON: {error}.") from error

    @classmethod
    def from_dict(cls, data: PlainDict) -> DeviceProfile:
        """A profile from plain values; ``from_dict(profile.to_dict()) == profile``. Raises as :meth:`from_file`."""
        check_instance("device profile", data, dict, "a dict of its fields")
        subject = f"device profile '{data.get('name', '')}'"
        fields = [field.name for field in dataclasses.fields(cls)]
        check_fields(subject, data, fields)
        for name in ("name", "title", "node", "table"):
            check_instance(f"{subject}, {name}", data[name], str, "text")
        check_integer(f"{subject}, year", data["year"], minimum=1900)
        check_option(f"{subject}, runtime", data["runtime"], _RUNTIMES)
        check_option(f"{subject}, skips_zeros", data["skips_zeros"], _ZEROS)
        check_instance(f"{subject}, operators", data["operators"], (list, tuple, type(None)), "a list of names or None")
        _check_operators(f"{subject}, operators", data["operators"] or ())
        check_instance(f"{subject}, memory", data["memory"], (list, tuple), "a list of levels")
        if not data["memory"]:
            raise invalid_value(f"{subject}, memory", expected="at least one level", received="none")
        values = dict(data)
        values["operators"] = None if data["operators"] is None else tuple(data["operators"])
        values["memory"] = tuple(read_level(f"{subject}, memory[{n}]", level) for n, level in enumerate(data["memory"]))
        for name in ("macs_per_second", "channel_tile", "elements_per_second", "picojoules_per_mac"):
            check_instance(f"{subject}, {name}", data[name], dict, "a dict of dtype -> figure")
            for dtype in data[name]:
                check_option(f"{subject}, {name}", dtype, DTYPES)
        for name in _kinds("Mapping[str, DeviceFigure]"):
            check_instance(f"{subject}, {name}", data[name], dict, "a dict of figures")
            values[name] = {
                key: read_figure(f"{subject}, {name}['{key}']", item, name) for key, item in data[name].items()
            }
        for name in _kinds("DeviceFigure"):
            values[name] = read_figure(f"{subject}, {name}", data[name], name)
        base, peak = values["base_watts"].value, values["peak_watts"].value
        if base is not None and peak is not None:
            check_number(f"{subject}, peak_watts", peak, minimum=base, fix="base_watts is a part of it.")
        return cls(**values)

    def figures(self) -> dict[str, DeviceFigure]:
        """Every figure of the profile by its name, such as ``"picojoules_per_mac, int8"``."""
        found = {name: getattr(self, name) for name in _kinds("DeviceFigure")}
        for name in _kinds("Mapping[str, DeviceFigure]"):
            found |= {f"{name}, {key}": figure for key, figure in getattr(self, name).items()}
        for level in self.memory:
            items = vars(level).items()
            found |= {f"{level.level}, {name}": item for name, item in items if isinstance(item, DeviceFigure)}
        return found

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values."""
        return plain({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    def _rows(self) -> list[tuple[str, ...]]:
        def text(value: float | None) -> str:
            return "unknown" if value is None else f"{value:.6g}"

        return [(name, text(figure.value), figure.source) for name, figure in self.figures().items()]

    def _remarks(self) -> list[str]:
        assumed = sum(figure.assumed for figure in self.figures().values())
        return [f"{self.title}; {self.table}", f"{assumed} of {len(self.figures())} figures are assumptions"]

    def _headline(self) -> str:
        return f"'{self.name}', {self.title}"


def device_names() -> list[str]:
    """The names of the profiles that tfgreen brings."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def _kinds(annotation: str) -> list[str]:
    """The fields of a profile that hold figures in one form."""
    return [field.name for field in dataclasses.fields(DeviceProfile) if field.type == annotation]


def _check_operators(subject: str, names: Collection[object]) -> None:
    known = [name for name in vars(BuiltinOperator) if name.isupper()]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name).upper(), known, 3)
            fix = f"Did you mean {' or '.join(map(repr, near))}?" if near else "tg.LiteRTModel.operators shows names."
            raise invalid_value(subject, expected="names of LiteRT's operators", received=repr(name), fix=fix)


def _listed(names: Collection[str]) -> str:
    return "one of " + ", ".join(names)


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, device_names(), 3, 0.4)
    own = "A profile of your own: the path of its .json file."
    return f"Did you mean {' or '.join(map(repr, near))}? {own}" if near else own
