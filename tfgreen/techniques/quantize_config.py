"""QuantizeConfig: the settings of quantization-aware training."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Literal, TypedDict, get_args

from tfgreen.checks import check_bool, check_integer, check_number, check_option, is_option
from tfgreen.config import Config, data_field
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.quantization.histogram import Calibration
from tfgreen.quantization.ranges import ActivationRange, LearnedRange, MovingAverageRange
from tfgreen.techniques.overrides import check_are_patterns, check_layers, settings_for
from tfgreen.transforms.base import TensorTransform
from tfgreen.typing import Samples

Granularity = Literal["auto", "per_channel", "per_tensor"]
Ranges = Literal["moving_average", "learned", "fixed"]
_RANGES: dict[Ranges, type[ActivationRange]] = {
    "moving_average": MovingAverageRange, "learned": LearnedRange, "fixed": ActivationRange,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizeConfig(Config):
    """How to quantize.

    Attributes:
        calibration_data: A few hundred training samples: inputs of shape (samples, ...) in the structure the model
            takes, or an iterable of batches of them or of ``(inputs, targets)``, such as a ``tf.data.Dataset``.
        calibration: The range a tensor starts with: ``"minmax"`` of what calibration saw, ``"percentile"`` (without the
            outermost 0.01 % at either end), or ``"mse"`` (of the least squared error).
        ranges: What moves the ranges of activations while training: ``"moving_average"`` of the batches' extremes,
            ``"learned"`` by gradient (LSQ), ``"fixed"``, or an instance of a :class:`tfgreen.ActivationRange`.
        input_range: ``(lower, upper)`` with ``lower <= 0 <= upper``: the range of the model's inputs, in place of one
            that calibration finds and training moves. In an override: of what its layers take in that is not rounded.
        output_range: The same of the model's outputs; in an override, of the outputs of its layers.
        weight_bits: 2 to 8, of kernels; embeddings have 8. Below 8 the scale of a weight is learned too.
        weight_granularity: ``"per_channel"``, a scale for each output channel; ``"per_tensor"``, one for a weight; or
            ``"auto"``, the former, but one for a dense kernel of 8 bits where a scale for each output of all Dense
            layers would take over 2 % of the file, as ``tg.convert`` does. Kernels that a BatchNormalization is fused
            into keep a scale per channel, which ``tg.summary`` says.
        weight_transform: An instance of a :class:`tfgreen.TensorTransform` subclass of yours that stands in the place
            of the rounding of weights; each weight gets a copy. The converter rounds what it makes to 8 bits.
        activation_bits: 8; or 16 to be converted with ``quantization="int16x8"``, for which the converter needs
            calibration data again; or 2 to 7 to train with only: LiteRT stores activations in 8 bits at least, so a
            file rounds finer, between the same ends, which its notes say.
        symmetric_activations: Whether the zero point of activations is 0: ranges are widened to -128 to 127 times a
            scale. Those that LiteRT prescribes (softmax, sigmoid, tanh) stay, and so do given ones.
        freeze_after: Number of training batches after which ranges and BatchNormalization statistics stay as they are;
            None for never. Needs ``tg.UpdateCompression()`` among the callbacks.
        preserve_sparsity: Keep the zeros of a weight that was pruned and stripped. A model that still holds its masks
            keeps them anyway.
        preserve_clusters: Keep the shared values of a kernel that was clustered and stripped: one of at most 256
            values. A model that still holds its codebooks keeps them anyway.
        keep_float: Patterns of layers (``"head*"``) that compute in float32, in the converted file too.
        layers: Name pattern -> another ``QuantizeConfig`` for the layers it matches, or None to keep them float. The
            first that matches counts. Overrides do not nest, and say nothing of data, ``keep_float``,
            ``preserve_clusters`` and ``strict``.
        strict: Whether a layer that LiteRT computes in float32 is an error, unless it was asked for.

    Raises:
        ValueError, TypeError: A setting is out of range or of another type.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.QuantizeConfig(ranges="learned", keep_float=("stem",), layers={"head": None})
        >>> tg.QuantizeConfig.from_dict(config.to_dict()) == config
        True
    """

    calibration_data: Samples | None = data_field()
    calibration: Calibration = "minmax"
    ranges: Ranges | ActivationRange = "moving_average"
    input_range: tuple[float, float] | None = None
    output_range: tuple[float, float] | None = None
    weight_bits: int = 8
    weight_granularity: Granularity = "auto"
    weight_transform: TensorTransform | None = None
    activation_bits: int = 8
    symmetric_activations: bool = False
    freeze_after: int | None = None
    preserve_sparsity: bool = False
    preserve_clusters: bool = False
    keep_float: tuple[str, ...] = ()
    layers: Mapping[str, QuantizeConfig | None] = dataclasses.field(default_factory=dict)
    strict: bool = False

    def __post_init__(self) -> None:
        check_are_patterns("keep_float", self.keep_float, "head*")
        check_layers(self, of_model=("calibration_data", "keep_float", "preserve_clusters", "strict"))
        object.__setattr__(self, "keep_float", tuple(self.keep_float))
        check_option("calibration", self.calibration, get_args(Calibration))
        if not isinstance(self.ranges, ActivationRange) and not is_option(self.ranges, _RANGES):
            expected = "'moving_average', 'learned', 'fixed' or a range such as tg.ActivationRange(bits=8)"
            raise invalid_value("ranges", expected=expected, received=repr(self.ranges))
        check_integer("weight_bits", self.weight_bits, minimum=2, maximum=8)
        check_option("weight_granularity", self.weight_granularity, get_args(Granularity))
        check_option("activation_bits", self.activation_bits, (*range(2, 9), 16))
        check_integer("freeze_after", self.freeze_after, minimum=0, optional=True)
        for name in ("symmetric_activations", "preserve_sparsity", "preserve_clusters", "strict"):
            check_bool(name, getattr(self, name))
        for name in ("input_range", "output_range"):
            _check_range(name, getattr(self, name))
        self._check_own_classes()

    def _check_own_classes(self) -> None:
        """Raise for settings of what an instance of the user's stands in the place of."""
        given = self.weight_transform is not None
        if given and not isinstance(self.weight_transform, TensorTransform):
            expected = "an instance of a subclass of tg.TensorTransform, or None"
            raise invalid_type("weight_transform", expected=expected, received=self.weight_transform)
        own = isinstance(self.ranges, ActivationRange)
        clashes = {
            "weight_bits": (given, 8, "weight_transform"),
            "weight_granularity": (given, "auto", "weight_transform"),
            "activation_bits": (own, 8, "ranges"),
            "symmetric_activations": (own, False, "ranges"),
        }
        for name, (clash, default, other) in clashes.items():
            if clash and getattr(self, name) != default:
                fix = f"Set it in the {other} that you pass."
                expected = f"{default!r}, the default, beside a {other} of your own"
                raise invalid_value(name, expected=expected, received=repr(getattr(self, name)), fix=fix)

    def for_layer(self, path: str) -> QuantizeConfig | None:
        """The config of a layer; None to keep it float."""
        stays_float = any(fnmatch.fnmatchcase(path, pattern) for pattern in self.keep_float)
        return None if stays_float else settings_for(path, self)

    def new_range(self) -> ActivationRange:
        """The range of which each place gets a copy."""
        if isinstance(self.ranges, ActivationRange):
            return self.ranges
        return _RANGES[self.ranges](bits=self.activation_bits, symmetric=self.symmetric_activations)


def _check_range(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise invalid_type(name, expected="(lower, upper) or None", received=value)
    check_number(f"{name}[0]", value[0], maximum=0, fix="Zero must be in the range: LiteRT stores it exactly.")
    check_number(f"{name}[1]", value[1], minimum=0, fix="Zero must be in the range: LiteRT stores it exactly.")
    if value[0] == value[1]:
        raise invalid_value(name, expected="two ends that differ", received=value)


class QuantizeOptions(TypedDict, total=False):
    """The fields of :class:`QuantizeConfig` as keyword arguments."""

    calibration_data: Samples | None
    calibration: Calibration
    ranges: Ranges | ActivationRange
    input_range: tuple[float, float] | None
    output_range: tuple[float, float] | None
    weight_bits: int
    weight_granularity: Granularity
    weight_transform: TensorTransform | None
    activation_bits: int
    symmetric_activations: bool
    freeze_after: int | None
    preserve_sparsity: bool
    preserve_clusters: bool
    keep_float: tuple[str, ...]
    layers: Mapping[str, QuantizeConfig | None]
    strict: bool
