"""estimate_energy: what an inference takes on paper, layer by layer, from energies per operation and per byte."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.energy.devices.cost import LayerCost, layer_costs
from tfgreen.energy.devices.profile import DeviceProfile
from tfgreen.energy.devices.work import ModelWork
from tfgreen.errors import invalid_type
from tfgreen.recipes.devices.file_work import file_work
from tfgreen.tables import RowResult, TableResult
from tfgreen.typing import FilePath, PlainDict, Shape

if TYPE_CHECKING:
    import keras

_FEW_ZEROS = 0.05  # a share of the weights that is not worth a word
THIS_MACHINE = "this-machine"


@dataclasses.dataclass(frozen=True)
class LayerEnergy(RowResult):
    """One layer, or operator of a file, of an :class:`EnergyEstimate`.

    Attributes:
        layer: Which: the path of a Keras layer, or an operator and its layers.
        dtype: What it computes in.
        macs: Multiply-accumulates that are carried out: those with weights of 0 too, unless the kernel skips them.
        traffic_bytes: Bytes of weights, inputs and results that are moved, by level of the memory.
        compute_joules, traffic_joules: What they take.
        seconds: Estimated time; None where the device has no speeds.
    """

    layer: str
    dtype: str
    macs: float
    traffic_bytes: Mapping[str, int]
    compute_joules: float
    traffic_joules: float
    seconds: float | None


@dataclasses.dataclass(frozen=True, repr=False)
class EnergyEstimate(TableResult):
    """An estimate of the energy of one inference; prints as a table with its sources.

    Attributes:
        model: What was counted.
        shapes: Input name -> shape that it was counted for, the batch first.
        device, node, year, table: The device profile, its process, its year, and where its figures are from.
        layers: A :class:`LayerEnergy` for each layer or operator.
        base_joules: What the device draws beside arithmetic and traffic, over the estimated time; None where it is not
            known, as in a table of energies.
        notes: How it was counted.
    """

    model: str
    shapes: Mapping[str, Shape]
    device: str
    node: str
    year: int
    table: str
    layers: tuple[LayerEnergy, ...]
    base_joules: float | None
    notes: tuple[str, ...]

    _headings: ClassVar[tuple[str, ...]] = ("layer", "dtype", "MACs", "bytes", "compute uJ", "traffic uJ")
    _left = 2

    @property
    def compute_joules(self) -> float:
        """Joules of the multiply-accumulates."""
        return sum(layer.compute_joules for layer in self.layers)

    @property
    def traffic_joules(self) -> float:
        """Joules of moving weights, inputs and results."""
        return sum(layer.traffic_joules for layer in self.layers)

    @property
    def joules(self) -> float:
        """All that is known: compute, traffic and base."""
        return self.compute_joules + self.traffic_joules + (self.base_joules or 0.0)

    @property
    def joules_per_inference(self) -> float:
        """The same as ``joules``, as :func:`tg.break_even` reads it."""
        return self.joules

    @property
    def source(self) -> str:
        """Where the figures come from."""
        return f"estimated for {self.device}"

    @property
    def seconds(self) -> float | None:
        """Estimated time of one inference; None where the device has no speeds."""
        times = [layer.seconds for layer in self.layers]
        return None if None in times else float(sum(time for time in times if time is not None))

    def to_dict(self) -> PlainDict:
        """Return the fields, sums and ``"source": "estimated"`` as plain values."""
        names = ("compute_joules", "traffic_joules", "joules", "seconds")
        return {**super().to_dict(), **{name: getattr(self, name) for name in names}, "source": "estimated"}

    def _rows(self) -> list[tuple[str, ...]]:
        rows = [
            (x.layer, x.dtype, f"{x.macs:,.0f}", f"{sum(x.traffic_bytes.values()):,}", *_micro(x)) for x in self.layers
        ]
        macs, size = sum(x.macs for x in self.layers), sum(sum(x.traffic_bytes.values()) for x in self.layers)
        return [*rows, ("total", "", f"{macs:,.0f}", f"{size:,}", *_micro(self))]

    def _remarks(self) -> list[str]:
        parts = f"compute {self.compute_joules * 1e6:.4g} uJ, traffic {self.traffic_joules * 1e6:.4g} uJ"
        if self.base_joules is not None:
            parts += f", base {self.base_joules * 1e6:.4g} uJ"
        sizes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes.items())
        return [
            f"estimated: {self.joules * 1e6:.4g} uJ per inference ({parts}) of inputs {sizes}",
            f"device {self.device}: {self.node or 'process unknown'}, {self.year}, {self.table}",
            *self.notes,
        ]

    def _headline(self) -> str:
        return f"estimated {self.joules * 1e6:.4g} uJ per inference on {self.device}"


def estimate_energy(
    model_or_lite: keras.Model | LiteRTModel, device: FilePath | DeviceProfile | PlainDict = "horowitz-45nm"
) -> EnergyEstimate:
    """Estimate the energy of one inference from its arithmetic and its traffic, before anything is measured.

    Multiply-accumulates are counted for each layer in the dtype that it computes in, and each weight, input and result
    is moved once per layer, to or from the nearest memory that is large enough. Weights that are 0 cost what others
    do, unless the device has a kernel that skips them. Both parts are lower bounds: registers, caches within a kernel
    and instructions are not in them. Where the profile knows a device's watts, what it draws beside is added for the
    estimated time.

    Args:
        model_or_lite: A Keras model, which is counted for one sample as Keras runs it, or a .tflite file, which has
            fewer operators, and may have other dtypes.
        device: The name of a profile (``"horowitz-45nm"``, ``tfgreen devices`` lists them), ``"this-machine"``, which
            is measured for some seconds, the path of a profile of your own, a .json file, a :class:`DeviceProfile`,
            or its fields in a dict.

    Raises:
        TypeError: ``model_or_lite`` is neither of the two.
        ValueError: There is no such device, or it has no figures for a dtype of the model; the model leaves a size
            open, has loops, or a layer whose multiply-accumulates are not known.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,), name="x"), keras.layers.Dense(4, name="out")])
        >>> estimate = tg.estimate_energy(model)
        >>> estimate.layers[0].macs, estimate.seconds
        (32.0, None)
        >>> print(estimate)
        layer  dtype    MACs  bytes  compute uJ  traffic uJ
        out    float32    32    192   0.0001472     0.00024
        total             32    192   0.0001472     0.00024
        estimated: 0.0003872 uJ per inference (compute 0.0001472 uJ, traffic 0.00024 uJ) of inputs x 1x8
        device horowitz-45nm: 45 nm, 2014, M. Horowitz, Computing's energy problem (and what we can do about it), \
ISSCC 2014, figure 1.1.9 (45 nm, 0.9 V)
        counted layer by layer as Keras runs them; a .tflite file has fewer operators, and other dtypes
    """
    profile = read_profile(device)
    return estimate(read_work(model_or_lite), profile)


def estimate(work: ModelWork, profile: DeviceProfile) -> EnergyEstimate:
    """The energy of work that has been counted; raises ``ValueError`` where the profile has no figure for a dtype."""
    costs = layer_costs(work, profile)
    rows = tuple(
        LayerEnergy(c.work.where, c.work.dtype, c.macs, c.levels, c.compute_joules, c.traffic_joules, c.seconds)
        for c in costs
    )
    times, watts = [row.seconds for row in rows], profile.base_watts.value
    known = watts is not None and None not in times
    base = watts * sum(time for time in times if time is not None) if known and watts is not None else None
    notes = (*work.notes, *_zeros(costs, profile))
    return EnergyEstimate(
        work.name, work.shapes, profile.name, profile.node, profile.year, profile.table, rows, base, notes
    )


def read_profile(device: object) -> DeviceProfile:
    """The profile of a name or a file, or one that is given."""
    if isinstance(device, DeviceProfile):
        return device
    if isinstance(device, os.PathLike) or isinstance(device, str) and device.endswith(".json"):
        return DeviceProfile.from_file(device)
    if isinstance(device, dict):
        return DeviceProfile.from_dict(device)
    if not isinstance(device, str):
        expected = "the name of a device, the path of its .json file, a tg.DeviceProfile, or its fields in a dict"
        raise invalid_type("device", expected=expected, received=device)
    return DeviceProfile.of_this_machine() if device == THIS_MACHINE else DeviceProfile.named(device)


def read_work(model: keras.Model | LiteRTModel) -> ModelWork:
    """What a model or a file computes and moves."""
    if isinstance(model, LiteRTModel):
        return file_work(model)
    import keras  # a file is counted without it

    from tfgreen.energy.devices.keras_work import keras_work

    if not isinstance(model, keras.Model):
        raise invalid_type("model_or_lite", expected="a keras.Model or a tg.LiteRTModel", received=model)
    return keras_work(model)


def _zeros(costs: list[LayerCost], profile: DeviceProfile) -> list[str]:
    """A sentence on multiply-accumulates with weights of 0, where there are many."""
    macs = sum(cost.work.macs for cost in costs)
    zeros = sum(cost.work.macs * cost.work.zero_share for cost in costs)
    skipped = macs - sum(cost.macs for cost in costs)
    if not macs or zeros < _FEW_ZEROS * macs:
        return []
    text = f"{zeros / macs:.0%} of the multiply-accumulates are with weights of 0"
    if skipped:
        return [f"{text}; its kernels skip {skipped / macs:.0%}"]
    why = "stored sparse, with a sparse kernel for the whole" if profile.skips_zeros == "sparse kernels" else "skipped"
    return [f"{text}, which cost what others do: on {profile.name} they are not {why}"]


def _micro(energy: LayerEnergy | EnergyEstimate) -> tuple[str, str]:
    return f"{energy.compute_joules * 1e6:.4g}", f"{energy.traffic_joules * 1e6:.4g}"
