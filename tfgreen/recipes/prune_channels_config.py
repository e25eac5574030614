"""ChannelPruneConfig: the settings of channel pruning, checked when they are made."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypedDict, get_args

from tfgreen.checks import check_bool, check_integer, check_number, check_option
from tfgreen.config import Config, data_field
from tfgreen.deploy.conversion.config import Quantization
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.surgery.channel_importance import Criterion
from tfgreen.surgery.channel_scores import READS_DATA
from tfgreen.surgery.channel_selection import Scope
from tfgreen.techniques.overrides import check_are_patterns
from tfgreen.transforms.importance import Loss
from tfgreen.typing import Arrays, Samples

Reconstruct = Literal["auto", "none", "least_squares", "batch_norm", "both"]

COUNTED = ("target_macs", "target_parameters")
MEASURED = ("target_bytes", "target_latency_ms")
TARGETS = (*COUNTED, *MEASURED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelPruneConfig(Config):
    """How many channels to remove, and which. At most one of ``ratio`` and the targets; by default ``ratio=0.5``.

    A target is an upper bound, and is met with as few channels removed as the settings allow.

    Attributes:
        ratio: The share of the channels that go, in (0, 1): of each group, or of all, see ``scope``.
        target_macs: Multiply-accumulates of the result, as ``tg.profile`` counts them; below 1 a share of the model's.
        target_parameters: The same for its weights, trained or not.
        target_bytes: The same for its ``.tflite`` file in the mode ``quantization``, which is converted to find out.
        target_latency_ms: Milliseconds of one inference of that file in LiteRT, measured here as ``tg.benchmark`` does,
            to be met within 10 %.
        criterion: How channels are scored, over all weights that hold them: ``"l1"`` and ``"l2"``, norms of kernels;
            ``"bn_scale"``, scales of batch normalization, which leaves groups without one as they are;
            ``"geometric_median"``, what the others can make up for. From ``calibration_data``: ``"activation"``, the
            mean magnitude; ``"taylor"``, the first-order change of ``loss`` on ``x, y``, or without these of half the
            squared outputs; ``"hessian"``, the expected squared change of the outputs, which needs no labels. Or
            ``"random"``.
        scope: ``"uniform"``: each group loses the same share; ``"global"``: all groups of equal structure together do;
            ``"sensitivity"``: those groups lose most without which the outputs on ``calibration_data`` change least,
            reconstructed as the result is: the best and the slowest, with three reconstructions for each group.
        max_ratio: The largest share that any group may lose, in (0, 1).
        round_to: The widths that shrink become multiples of it, since kernels are fast on these; those that are no
            wider, of its half, quarter and so on. 1 for any width.
        keep: Patterns of layers (``"stem"``, ``"block*/expand"``) whose outputs stay as wide as they are.
        keep_residual: Whether the streams that residual blocks add to stay as wide as they are, so that channels go
            within the blocks alone.
        calibration_data: Representative inputs, as for ``tg.convert``. A criterion looks at the first 256, the
            sensitivity at the first 400; latency is measured on the first where inputs are of open size.
        x: For ``"taylor"``: training samples, in the same form.
        y: For ``"taylor"``: their targets, of shape (samples, ...) in the structure of the outputs.
        loss: For ``"taylor"``: a Keras loss or its name.
        reconstruct: How what is left makes up for the channels that went, from ``calibration_data``:
            ``"least_squares"``: each kernel behind them is solved anew; ``"batch_norm"``: statistics are taken anew;
            ``"both"``; ``"none"``; ``"auto"``: whichever of these comes nearest to the outputs of the model on samples
            that are held out, and ``"none"`` without data.
        quantization: For ``target_bytes`` and ``target_latency_ms``: the mode of the file.
        threads: For ``target_latency_ms``: CPU threads.
        seed: For ``"random"``, and the projections of ``"hessian"``.

    Raises:
        ValueError, TypeError: A setting is out of range, of another type, or does not go with another.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.ChannelPruneConfig(target_macs=0.5, criterion="l2", keep=("stem",))
        >>> tg.ChannelPruneConfig.from_dict(config.to_dict()) == config
        True
    """

    ratio: float | None = None
    target_macs: float | None = None
    target_parameters: float | None = None
    target_bytes: float | None = None
    target_latency_ms: float | None = None
    criterion: Criterion = "l2"
    scope: Scope = "global"
    max_ratio: float = 0.75
    round_to: int = 8
    keep: tuple[str, ...] = ()
    keep_residual: bool = False
    calibration_data: Samples | None = data_field()
    x: Samples | None = data_field()
    y: Arrays | None = data_field()
    loss: Loss | None = None
    reconstruct: Reconstruct = "auto"
    quantization: Quantization = "float32"
    threads: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("ratio", *TARGETS) if getattr(self, name) is not None]
        if len(given) > 1:
            raise invalid_state(f"{' and '.join(given)} are given, which say the same in two ways.", "Give one.")
        check_number("max_ratio", self.max_ratio, above=0, below=1)
        check_number("ratio", self.ratio, above=0, below=1, optional=True)
        if self.ratio is not None and self.ratio > self.max_ratio:
            expected = f"a number <= max_ratio ({self.max_ratio:g})"
            raise invalid_value("ratio", expected=expected, received=self.ratio, fix="Raise max_ratio too.")
        for name in TARGETS:
            check_number(name, getattr(self, name), above=0, optional=True)
        check_option("criterion", self.criterion, get_args(Criterion))
        check_option("scope", self.scope, get_args(Scope))
        check_option("reconstruct", self.reconstruct, get_args(Reconstruct))
        check_option("quantization", self.quantization, get_args(Quantization))
        check_integer("round_to", self.round_to, minimum=1)
        check_integer("threads", self.threads, minimum=1, maximum=1024)
        check_integer("seed", self.seed, minimum=0)
        check_bool("keep_residual", self.keep_residual)
        check_are_patterns("keep", self.keep, "block*/expand")
        object.__setattr__(self, "keep", tuple(self.keep))
        self._check_together()

    def _check_together(self) -> None:
        labelled = [name for name in ("x", "y", "loss") if getattr(self, name) is not None]
        if labelled and self.criterion != "taylor":
            expected, fix = f"None with criterion='{self.criterion}'", "Choose criterion='taylor'."
            raise invalid_value(labelled[0], expected=expected, received="a value", fix=fix)
        if labelled and len(labelled) < 3:
            raise invalid_state("x, y and loss go together.", "Pass all three, or only calibration_data.")
        measured = [name for name in MEASURED if getattr(self, name) is not None]
        for name, plain in (("quantization", "float32"), ("threads", 1)):
            if getattr(self, name) != plain and not measured:
                fix = "The model stays a Keras model: convert it with tg.convert."
                expected = f"{plain!r} without target_bytes or target_latency_ms"
                raise invalid_value(name, expected=expected, received=repr(getattr(self, name)), fix=fix)

    @property
    def target(self) -> str:
        """The field that says how many channels go."""
        return next((name for name in TARGETS if getattr(self, name) is not None), "ratio")

    def needs_data(self) -> str:
        """What in the settings needs ``calibration_data``, in words; "" if nothing does."""
        if self.criterion in READS_DATA and self.loss is None:
            return f"criterion='{self.criterion}' scores channels by data"
        if self.scope == "sensitivity":
            return "scope='sensitivity' measures the outputs on data"
        if self.reconstruct not in ("auto", "none"):
            return f"reconstruct='{self.reconstruct}' solves on data"
        if self.quantization in ("int8", "int4", "int16x8"):
            return f"quantization='{self.quantization}' is calibrated on data"
        return ""


class ChannelPruneOptions(TypedDict, total=False):
    """The fields of :class:`ChannelPruneConfig` as keyword arguments."""

    ratio: float | None
    target_macs: float | None
    target_parameters: float | None
    target_bytes: float | None
    target_latency_ms: float | None
    criterion: Criterion
    scope: Scope
    max_ratio: float
    round_to: int
    keep: tuple[str, ...]
    keep_residual: bool
    calibration_data: Samples | None
    x: Samples | None
    y: Arrays | None
    loss: Loss | None
    reconstruct: Reconstruct
    quantization: Quantization
    threads: int
    seed: int
