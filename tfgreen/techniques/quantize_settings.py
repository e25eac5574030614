"""QuantizeConfig: the settings of quantization-aware training, checked when they are made."""

from __future__ import annotations

import dataclasses
import fnmatch
import numbers
from collections.abc import Mapping
from typing import Any

from tfgreen.config import Config, data_field
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.techniques.patterns import check_are_patterns, check_layers, settings_for
from tfgreen.transforms.histogram import METHODS
from tfgreen.transforms.ranges import ActivationRange, LearnedRange, MovingAverageRange

RANGES = {"moving_average": MovingAverageRange, "learned": LearnedRange, "fixed": ActivationRange}


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizeConfig(Config):
    """How to quantize.

    Attributes:
        calibration_data: Inputs of shape (samples, ...) in the structure the model takes, or an iterable of batches of
            them (or of ``(inputs, targets)``), such as a ``tf.data.Dataset`` or ``PyDataset``: a few hundred training
            samples.
        calibration: The range a tensor starts with: ``"minmax"`` of what calibration saw, ``"percentile"`` (without the
            outermost 0.01 % at either end), or ``"mse"`` (of the least squared error).
        ranges: What moves the ranges of activations while training: ``"moving_average"`` of the batches' extremes,
            ``"learned"`` by gradient (LSQ), ``"fixed"``, or an instance of a :class:`tfgreen.ActivationRange`.
        weight_bits: 2 to 8, of kernels; embeddings have 8. Below 8 the scale of a weight is learned too.
        activation_bits: 8, or 16 to be converted with ``quantization="int16x8"``, for which the converter needs
            calibration data again.
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

    calibration_data: Any = data_field()
    calibration: str = "percentile"
    ranges: Any = "moving_average"
    weight_bits: int = 8
    activation_bits: int = 8
    freeze_after: int | None = None
    preserve_sparsity: bool = False
    preserve_clusters: bool = False
    keep_float: tuple[str, ...] = ()
    layers: Mapping[str, QuantizeConfig | None] = dataclasses.field(default_factory=dict)
    strict: bool = False

    def __post_init__(self) -> None:
        check_are_patterns("keep_float", self.keep_float, "head*")
        check_layers(self)
        object.__setattr__(self, "keep_float", tuple(self.keep_float))
        object.__setattr__(self, "layers", dict(self.layers))
        if self.calibration not in METHODS:
            raise invalid_value("calibration", expected=f"one of {METHODS}", received=repr(self.calibration))
        if not isinstance(self.ranges, ActivationRange) and self.ranges not in tuple(RANGES):
            expected = f"one of {tuple(RANGES)} or a tg.ActivationRange"
            raise invalid_value("ranges", expected=expected, received=repr(self.ranges))
        _check_integer("weight_bits", self.weight_bits, range(2, 9), "an integer from 2 to 8")
        _check_integer("activation_bits", self.activation_bits, (8, 16), "8 or 16")
        if self.freeze_after is not None:
            expected = "a number of batches >= 0 or None"
            _check_integer("freeze_after", self.freeze_after, range(2**62), expected)
        for name in ("preserve_sparsity", "preserve_clusters", "strict"):
            if not isinstance(getattr(self, name), bool):
                raise invalid_type(name, expected="True or False", received=getattr(self, name))
        for pattern, override in self.layers.items():
            for name in ("calibration_data", "keep_float", "preserve_clusters", "strict"):
                if override is not None and getattr(override, name):
                    raise invalid_value(
                        f"layers['{pattern}']", expected=f"no {name} of its own", received=getattr(override, name),
                        fix=f"Set {name} for the whole model.",
                    )  # fmt: skip

    def for_layer(self, path: str) -> QuantizeConfig | None:
        """The settings of a layer; None to keep it float."""
        kept = any(fnmatch.fnmatchcase(path, pattern) for pattern in self.keep_float)
        return None if kept else settings_for(path, self)

    def new_range(self) -> ActivationRange:
        """The range of which each place gets a copy."""
        if isinstance(self.ranges, ActivationRange):
            return self.ranges
        return RANGES[self.ranges](bits=self.activation_bits)


def _check_integer(name: str, value: Any, allowed: Any, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value not in allowed:
        raise invalid_value(name, expected=expected, received=value)
