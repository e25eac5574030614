"""ConvertConfig: the settings of a conversion, checked when they are made."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Literal, TypedDict, get_args

from tfgreen.checks import check_are_texts, check_bool, check_integer, check_option, is_option
from tfgreen.config import Config, data_field
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.quantization.histogram import Calibration
from tfgreen.typing import Samples

Quantization = Literal["float32", "float16", "dynamic", "int8", "int16x8", "int4"]
LayerQuantization = Literal["float32", "int8", "int4"]
EdgeDtype = Literal["float32", "int8"]
SparseWeights = Literal["auto"] | bool
WeightScales = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertConfig(Config):
    """How to convert.

    Attributes:
        quantization: ``"float32"``: as trained. ``"float16"``: weights stored as float16, half the size, computed in
            float32; small vectors, and what float16 cannot hold, stay float32. ``"dynamic"``: weights as int8,
            activations quantized at run time; tensors below 1024 elements stay float32. ``"int8"``: weights and
            activations int8 from ranges seen on ``calibration_data``, or trained by quantization-aware training.
            ``"int4"``: as int8, but with kernels of 15 values, stored in 4 bits:
            trained to be so (``tg.QuantizeConfig(weight_bits=4)``), or rounded here, which costs accuracy.
            ``"int16x8"``: weights int8, activations int16, from ``calibration_data``.
        calibration_data: For the modes with integer activations: an array, list or dict of arrays in the structure of
            the model's inputs, of shape ``(samples, *input shape)``, preprocessed exactly as for training; or batches
            of them, with or without targets, from a ``tf.data.Dataset``, ``PyDataset`` or generator. 100 to 1000
            samples are usual.
        calibration: For ``"int8"`` and ``"int4"``, the range an activation gets from what it held on that data:
            ``"minmax"``, all of it; ``"percentile"``, without the outermost 0.01 % at either end; ``"mse"``, of the
            least squared error.
        keep_float: Patterns of layers (``"head*"``) that compute in float32 in an int8 or int4 file.
        layers: The same for other modes: pattern -> ``"float32"``, ``"int8"`` or ``"int4"``, for an int8 or int4 file.
            The first pattern that matches a layer counts, after ``keep_float``.
        strict: Whether an operator that stays float32 in an integer file, though nothing asked for it, is an error.
        dynamic_batch: Whether the file's inputs leave the number of samples open, to be set by the interpreter's
            ``resize_tensor_input``. It is 1 otherwise, which microcontrollers and most accelerators need.
        sequence_length: For a model whose inputs leave the length of sequences open (their first size after the batch),
            as token models do: the one that the file is for. Operators, latency, memory and MACs are then known; tokens
            and masks are padded to it.
        flex: Whether operators that LiteRT lacks may be TensorFlow's own (Flex), for a device whose runtime has the
            Flex delegate; LiteRT's Python package has not. For ``"float32"``, ``"float16"`` and ``"dynamic"``.
        sparse_weights: Whether kernels with many zeros are stored as what is not 0 and where it stands, for
            ``"float32"`` and ``"float16"``; outputs stay the same to the bit. That saves flash and disk, not download
            (gzip does as well); the file takes longer and more memory to load, is no faster, and LiteRT for
            Microcontrollers cannot read it. ``"auto"``: where it halves the file, which takes about 70 % of zeros in
            float32 and 75 % in float16, and the file loads and runs here. True: each kernel that is smaller so. False:
            never.
        weight_scales: What the scales of integer weights are rounded to, where each channel has one: ``"float32"``, or
            ``"bfloat16"``, so that they compress. A file of few weights for each channel is then 2 to 4 % smaller after
            gzip; what a channel returns changes by up to 0.4 %, less than a step of its int8 outputs.
        labels: Names of the classes, stored in the file's metadata.
        input_dtype: What the file's inputs store: ``"float32"``, or ``"int8"`` with ``quantization="int8"``.
        output_dtype: The same for the outputs.

    Raises:
        ValueError: An unknown value, or one that does not go with ``quantization``.

    Example:
        >>> ConvertConfig(quantization="float16").to_dict()["config"]["quantization"]
        'float16'
    """

    quantization: Quantization = "float32"
    calibration_data: Samples | None = data_field()
    calibration: Calibration = "minmax"
    keep_float: tuple[str, ...] = ()
    layers: Mapping[str, LayerQuantization] = dataclasses.field(default_factory=dict)
    strict: bool = False
    dynamic_batch: bool = False
    sequence_length: int | None = None
    flex: bool = False
    sparse_weights: SparseWeights = "auto"
    weight_scales: WeightScales = "float32"
    labels: tuple[str, ...] = ()
    input_dtype: EdgeDtype = "float32"
    output_dtype: EdgeDtype = "float32"

    def __post_init__(self) -> None:
        check_option("quantization", self.quantization, get_args(Quantization))
        check_option("calibration", self.calibration, get_args(Calibration))
        check_option("weight_scales", self.weight_scales, get_args(WeightScales))
        check_integer("sequence_length", self.sequence_length, minimum=1, optional=True)
        for name in ("strict", "dynamic_batch", "flex"):
            check_bool(name, getattr(self, name))
        if not is_option(self.sparse_weights, ("auto", True, False)):
            raise invalid_value("sparse_weights", expected="'auto', True or False", received=repr(self.sparse_weights))
        for name in ("keep_float", "labels"):
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)):
                raise invalid_type(name, expected="a tuple of texts", received=value)
            check_are_texts(name, value)
            object.__setattr__(self, name, tuple(value))
        if not isinstance(self.layers, Mapping) or not all(isinstance(pattern, str) for pattern in self.layers):
            raise invalid_type("layers", expected="a dict of name pattern -> quantization", received=self.layers)
        for pattern, mode in self.layers.items():
            if not is_option(mode, get_args(LayerQuantization)):
                expected, fix = "'float32', 'int8' or 'int4'", "The other modes are for whole files."
                raise invalid_value(f"layers['{pattern}']", expected=expected, received=repr(mode), fix=fix)
        object.__setattr__(self, "layers", dict(self.layers))
        self._check_together()

    def _check_together(self) -> None:
        """Check that the settings go with the quantization."""
        given = f"with quantization='{self.quantization}'"
        for name in ("input_dtype", "output_dtype"):
            if is_option(getattr(self, name), ("uint8",)):
                fix = "Set 'int8' and calibrate from black to white: bytes less 128, (x ^ 0x80).view('int8'), fit it."
                raise invalid_value(name, expected="'float32' or 'int8'", received="'uint8'", fix=fix)
            check_option(name, getattr(self, name), get_args(EdgeDtype))
            if getattr(self, name) == "int8" and self.quantization not in ("int8", "int4"):
                fix = "Set quantization='int8' too."
                raise invalid_value(name, expected=f"'float32' {given}", received="'int8'", fix=fix)
        if self.calibration_data is not None and not self.integers:
            received, fix = type(self.calibration_data).__name__, "Only 'int8', 'int16x8' and 'int4' calibrate."
            raise invalid_value("calibration_data", expected=f"none {given}", received=received, fix=fix)
        if self.flex and self.integers:
            fix = "TensorFlow's own operators compute in float32: convert to 'float32', 'float16' or 'dynamic'."
            raise invalid_value("flex", expected=f"False {given}", received="True", fix=fix)
        if self.sparse_weights is True and self.quantization not in ("float32", "float16"):
            fix = (
                "LiteRT refuses integer kernels of fully connected layers where they are stored sparse, and "
                "microcontrollers and accelerators all of them: convert to 'float32' or 'float16'."
            )
            raise invalid_value("sparse_weights", expected=f"'auto' or False {given}", received="True", fix=fix)
        if self.weight_scales == "bfloat16" and not self.integers:
            fix = "Only 'int8', 'int16x8' and 'int4' store weights as integers of trained or calibrated scales."
            raise invalid_value("weight_scales", expected=f"'float32' {given}", received="'bfloat16'", fix=fix)
        if self.places_ranges and self.quantization not in ("int8", "int4"):
            calibrated = f"calibration='{self.calibration}'"
            asks = "keep_float" if self.keep_float else "layers" if self.layers else calibrated
            fix, received = f"Set quantization='int8', or leave {asks} out.", repr(self.quantization)
            raise invalid_value("quantization", expected=f"'int8' or 'int4' with {asks}", received=received, fix=fix)

    def mode_of(self, path: str) -> Quantization:
        """The quantization asked for the layer of a path.

        Example:
            >>> config = ConvertConfig(quantization="int8", keep_float=("head",), layers={"block*": "int4"})
            >>> [config.mode_of(path) for path in ("head", "block1/conv", "stem")]
            ['float32', 'int4', 'int8']
        """
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in self.keep_float):
            return "float32"
        modes = (mode for pattern, mode in self.layers.items() if fnmatch.fnmatchcase(path, pattern))
        return next(modes, self.quantization)

    @property
    def places_ranges(self) -> bool:
        """Whether tfgreen places the ranges of an int8 file itself, which TensorFlow's converter does one way only."""
        return self.calibration != "minmax" or bool(self.keep_float or self.layers)

    @property
    def keeps_float(self) -> bool:
        """Whether layers are to compute in float32 in an integer file."""
        return bool(self.keep_float) or "float32" in self.layers.values()

    @property
    def stores_int4(self) -> bool:
        """Whether kernels of 15 values are to be stored in 4 bits."""
        return self.quantization == "int4" or "int4" in self.layers.values()

    @property
    def integers(self) -> bool:
        """Whether activations are stored as integers."""
        return self.quantization in ("int8", "int4", "int16x8")


class ConvertOptions(TypedDict, total=False):
    """The fields of :class:`ConvertConfig`, as keyword arguments of :func:`tfgreen.convert`."""

    quantization: Quantization
    calibration_data: Samples | None
    calibration: Calibration
    keep_float: tuple[str, ...]
    layers: Mapping[str, LayerQuantization]
    strict: bool
    dynamic_batch: bool
    sequence_length: int | None
    flex: bool
    sparse_weights: SparseWeights
    weight_scales: WeightScales
    labels: tuple[str, ...]
    input_dtype: EdgeDtype
    output_dtype: EdgeDtype
