"""Ranges of activations: found from calibration data, and moved along while training.

References: B. Jacob et al., 2018, arXiv:1712.05877 (moving averages of the extremes); S. Esser et al., 2020,
arXiv:1902.08153 (ranges learned by gradient); LiteRT's 8-bit specification (asymmetric, one range for a tensor).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfgreen.checks import check_bool, check_option
from tfgreen.quantization.histogram import Calibration, Histogram
from tfgreen.quantization.rounding import fake_quantize_between, relu_of, round_learned, round_relu
from tfgreen.transforms.exporting import is_exporting
from tfgreen.typing import PlainDict, Shape, Tensor


@keras.saving.register_keras_serializable(package="tfgreen")
class ActivationRange(keras.layers.Layer):
    """Round a tensor to the 256 values between the ends of a range that calibration found; base of all ranges.

    It holds ``lower`` and ``upper``, float32 scalars with ``lower <= 0 <= upper``, so that zero is one of the values.
    A range of your own subclasses it, is registered with ``keras.saving.register_keras_serializable``, and overrides

    - ``follow(x)``: called with each training batch inside the graph until the ranges are frozen; it may assign
      ``self.lower`` and ``self.upper``. The default leaves them as calibrated.
    - ``ends()``: the tensors ``(lower, upper)`` to round with, the variables by default.

    Args:
        bits: Width of the integers: 2 to 8, or 16.
        symmetric: Whether the range is widened to -128 to 127 times a scale (of 8 bits), so that the zero point is 0.

    Example:
        >>> import numpy as np
        >>> fixed = ActivationRange(); fixed.build(); fixed.set(-1.0, 1.55)
        >>> [round(float(v), 3) for v in fixed(np.array([-2.0, 0.004, 0.006, 9.0], "float32"))]
        [-1.0, 0.0, 0.01, 1.55]
    """

    only_rounds = True  # who reads what a model ends in looks through it, see tfgreen/model/capture.py
    needs_data = True  # whether it starts from calibration data
    only_in_file = False  # whether the file rounds to it, and the model does not

    def __init__(self, bits: int = 8, symmetric: bool = False, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs}, autocast=False)
        check_option("bits", bits, (*range(2, 9), 16))
        check_bool("symmetric", symmetric)
        self.bits = bits
        self.supports_masking = True
        self.symmetric = symmetric
        self.recorder: Histogram | None = None  # while set, a tensor is recorded and passed on as it is
        # Whether a training batch that is far from the range moves it there at once. Inside of a model it may be far:
        # calibration uses the statistics of batch normalization, which may not have settled, and training the batch's.
        # Batch normalization blows up the gradients of what is clipped, or rounded to a few values.
        self.catches_up = False

    def build(self, input_shape: Shape | None = None) -> None:
        scalar: dict[str, Any] = {"shape": (), "trainable": False, "aggregation": "mean"}
        self.lower = self.add_weight(initializer="zeros", name="lower", **scalar)
        self.upper = self.add_weight(initializer="ones", name="upper", **scalar)
        self.built = True

    def set(self, lower: float, upper: float) -> None:
        """Start from a range; it is widened to hold zero."""
        self.lower.assign(min(float(lower), 0.0))
        self.upper.assign(max(float(upper), 0.0) or (1.0 if lower >= 0 else 0.0))

    def start_from(self, histogram: Histogram, calibration: Calibration) -> None:
        """Start from all that the tensor held over the calibration data."""
        self.set(*histogram.range(calibration, self.bits, is_data=not self.catches_up))

    def follow(self, x: Tensor) -> None:
        """Look at a float32 training batch of any shape."""

    def ends(self) -> tuple[Tensor, Tensor]:
        lower, upper = self.lower.value, self.upper.value
        if self.symmetric:
            bits = max(self.bits, 8) if is_exporting() else self.bits
            share = 1 - 2.0 ** (1 - bits)  # of the upper end in the lower: 127 of 128 for 8 bits
            lower = ops.minimum(lower, -upper / share)
            upper = -lower * share
        return lower, upper

    @property
    def is_set(self) -> bool:
        """Whether it says what the tensor holds: from calibration data, or a training batch."""
        return True

    def numbers(self) -> np.ndarray:
        """The range at present, ``[lower, upper]``."""
        # In the scope of a strategy, np.array takes no scalar variable that lies on several devices.
        return np.array([tf.identity(end).numpy() for end in self.ends()])

    def call(self, x: Tensor, rounds: bool = True, training: bool | None = None) -> Tensor:
        if self.recorder is not None:
            self.recorder.add(ops.convert_to_numpy(x))
        if self.recorder is not None or not rounds:
            return x
        return ops.cast(self.round(ops.cast(x, "float32"), bool(training)), x.dtype)

    def round(self, x: Tensor, training: bool = False) -> Tensor:
        """Round a float32 tensor. Gradients pass where it lies within the range."""
        relu = relu_of(x) if training else None
        if relu is not None:
            return round_relu(relu, *self.ends(), self.bits)
        return fake_quantize_between(x, *self.ends(), self.bits)

    def compute_output_spec(self, x: Tensor, rounds: bool = True, training: bool | None = None) -> Tensor:
        return x

    def get_config(self) -> PlainDict:
        return {**super().get_config(), "bits": self.bits, "symmetric": self.symmetric}


@keras.saving.register_keras_serializable(package="tfgreen")
class FixedRange(ActivationRange):
    """A range known beforehand, such as that of a softmax: 256 values from 0 to 255/256.

    Args:
        lower: At most 0.
        upper: At least 0.
    """

    def __init__(self, lower: float, upper: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fixed = (float(lower), float(upper))

    def build(self, input_shape: Shape | None = None) -> None:
        self.built = True

    def set(self, lower: float, upper: float) -> None:
        """Stay."""

    def call(self, x: Tensor, rounds: bool = True, training: bool | None = None) -> Tensor:
        passed_on = super().call(x, rounds, training)
        return passed_on if self.recorder is None else ops.clip(passed_on, *self.fixed)

    def ends(self) -> tuple[Tensor, Tensor]:
        return self.fixed

    def get_config(self) -> PlainDict:
        return {**super().get_config(), "lower": self.fixed[0], "upper": self.fixed[1]}


@keras.saving.register_keras_serializable(package="tfgreen")
class MovingAverageRange(ActivationRange):
    """A range that follows the extremes of training batches by an exponential moving average.

    Where calibration took less than the extremes (percentile, least squared error), the same share of them is taken.

    Args:
        momentum: Weight of the old range, in [0, 1].
    """

    def __init__(self, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum

    def build(self, input_shape: Shape | None = None) -> None:
        super().build(input_shape)
        self.shares = self.add_weight(shape=(2,), initializer="ones", trainable=False, name="shares")

    def start_from(self, histogram: Histogram, calibration: Calibration) -> None:
        super().start_from(histogram, calibration)
        extremes = np.array([min(histogram.lower, 0.0), max(histogram.upper, 0.0)])
        chosen = histogram.range(calibration, self.bits, is_data=not self.catches_up)
        self.shares.assign(np.divide(chosen, extremes, out=np.ones(2), where=extremes != 0))

    def follow(self, x: Tensor) -> None:
        lower = (0.0 if relu_of(x) is not None else ops.minimum(ops.min(x), 0.0)) * self.shares[0]
        upper = ops.maximum(ops.max(x), 0.0) * self.shares[1]
        width = ops.maximum(self.upper - self.lower, 1e-30)
        far = ops.logical_or(upper - lower > 4 * width, upper - lower < width / 8)
        if self.catches_up:  # nothing but 0 needs no range, and one of no width would lose the bias added next
            momentum = ops.where(upper > lower, ops.where(far, 0.0, self.momentum), 1.0)
        else:  # data: whole numbers keep the scale that leaves them what they are, see Histogram.range
            momentum = ops.where(ops.all(x == ops.round(x)), 1.0, self.momentum)
        self.lower.assign(self.lower * momentum + lower * (1 - momentum))
        self.upper.assign(self.upper * momentum + upper * (1 - momentum))

    def extremes(self, range_: np.ndarray) -> np.ndarray:
        """The extremes ``[lower, upper]`` of which a range is the shares."""
        return range_ / np.maximum(ops.convert_to_numpy(self.shares), 1e-9)

    def moved_by(self, before: np.ndarray, times: int) -> np.ndarray:
        """The (averaged) extremes ``[lower, upper]`` that the range followed so many times, given it before."""
        left = self.momentum**times
        return self.extremes((self.numbers() - left * before) / (1 - left))

    def get_config(self) -> PlainDict:
        return {**super().get_config(), "momentum": self.momentum}


@keras.saving.register_keras_serializable(package="tfgreen")
class LearnedRange(ActivationRange):
    """A range whose width is trained with the weights (LSQ), from the calibrated one on; its zero point stays."""

    def build(self, input_shape: Shape | None = None) -> None:
        super().build(input_shape)
        self.width = self.add_weight(shape=(), initializer="ones", trainable=True, name="width")
        self.start = self.add_weight(shape=(2,), initializer="zeros", trainable=False, name="start")

    def set(self, lower: float, upper: float) -> None:
        super().set(lower, upper)
        self.start.assign(ops.stack([self.lower.value, self.upper.value]))

    def follow(self, x: Tensor) -> None:
        # The ends are variables of their own, so that they stay when ranges are frozen, whatever the optimizer does.
        width = ops.abs(self.width.value)
        self.lower.assign(self.start[0] * width)
        self.upper.assign(self.start[1] * width)

    def round(self, x: Tensor, training: bool = False) -> Tensor:
        return round_learned(x, *self.ends(), self.width.value, self.bits)
