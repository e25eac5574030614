"""quantize_weights: weights as few integers, activations as they are; from calibration data where there is some.

References: E. Frantar et al., "GPTQ", 2022, arXiv:2210.17323; J. Lin et al., "AWQ", 2023, arXiv:2306.00978.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, get_args

import keras
import numpy as np

from tfgreen.checks import check_integer, check_option
from tfgreen.config import Config, data_field, resolve_config
from tfgreen.errors import invalid_state, invalid_value, layer_subject
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.paths import check_built_model, holder_of, replaceable_layers, weights_by_path
from tfgreen.model.samples import sample_batches
from tfgreen.model.weights import Reasons, row_axes
from tfgreen.techniques.overrides import (
    by_attributes,
    check_layer_patterns,
    check_layers,
    check_without,
    layers_by_weight,
    settings_for,
)
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.compressed import has_transform
from tfgreen.transforms.fake_quant import FakeQuant
from tfgreen.transforms.integer_weights import IntegerWeights, Rows
from tfgreen.transforms.lora import merged_value
from tfgreen.transforms.one_shot.input_statistics import input_grams
from tfgreen.transforms.one_shot.layer_by_layer import LayerByLayer
from tfgreen.transforms.one_shot.round_at_once import Method, round_at_once
from tfgreen.transforms.selection import check_finite
from tfgreen.typing import Samples

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizeWeightsConfig(Config):
    """How to round weights.

    Attributes:
        bits: 8 or 4, of each weight: integers from -127 to 127 or -7 to 7.
        group_size: How many inputs of an output share a scale (32 is usual for 4 bits), which must divide the inputs of
            every kernel; None for one scale for each output. A row of a table that is shorter has one scale.
        method: ``"rtn"``, round to nearest. Two look at ``calibration_data``: ``"gptq"`` (weights make up for what the
            rounding of others changes) and ``"awq"`` (inputs that are large get finer weights). They hold for dense
            layers, EinsumDense, attention and convolutions; others, such as embeddings, are rounded to nearest, which
            ``tg.summary`` says.
        calibration_data: For these: inputs of shape (samples, ...) in the structure the model takes, a hundred or more.
            No labels are needed.
        layers: Name pattern (``"block*/conv"``) -> another ``QuantizeWeightsConfig`` for the layers it matches, or None
            to keep them float; those inside a block or a task of KerasHub's too. The first pattern that matches counts.
            Overrides do not nest, and have no data.

    Raises:
        ValueError, TypeError: A setting is out of range, of another type, or does not go with another.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.QuantizeWeightsConfig(bits=4, group_size=32, layers={"head": None})
        >>> tg.QuantizeWeightsConfig.from_dict(config.to_dict()) == config
        True
    """

    bits: int = 8
    group_size: int | None = None
    method: Method = "rtn"
    calibration_data: Samples | None = data_field()
    layers: Mapping[str, QuantizeWeightsConfig | None] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_option("bits", self.bits, (8, 4))
        check_integer("group_size", self.group_size, minimum=2, optional=True)
        check_option("method", self.method, get_args(Method))
        check_layers(self, of_model=("calibration_data",))
        reads = any(c is not None and c.method != "rtn" for c in (self, *self.layers.values()))
        if self.calibration_data is not None and not reads:
            received, fix = type(self.calibration_data).__name__, "Choose method='gptq' or 'awq', or leave it out."
            raise invalid_value("calibration_data", expected="None with method='rtn'", received=received, fix=fix)


class QuantizeWeightsOptions(TypedDict, total=False):
    """The fields of :class:`QuantizeWeightsConfig` as keyword arguments."""

    bits: int
    group_size: int | None
    method: Method
    calibration_data: Samples | None
    layers: Mapping[str, QuantizeWeightsConfig | None]


def quantize_weights(
    model: keras.Model, config: QuantizeWeightsConfig | None = None, **options: Unpack[QuantizeWeightsOptions]
) -> keras.Model:
    """Return a copy of ``model`` whose kernels and embeddings are integers times a scale, computed with in float.

    Activations are left as they are: what language models lose most by is their activations, and what they take most
    memory for is their weights. The copy needs no training; it can be compiled and trained on (with
    ``tg.UpdateCompression`` if it is pruned or clustered too), with the scales as they are. ``tg.convert`` stores the
    integers: a ``"float32"`` file computes exactly what the copy does, a ``"dynamic"`` one in integers, with
    activations rounded as they come. ``tg.strip`` leaves plain layers with the rounded weights as floats.

    Args:
        model: Any built Keras 3 model; it may be pruned or clustered. It is not changed.
        config: How to round; by default to 8 bits, with a scale for each output.
        options: Fields of :class:`QuantizeWeightsConfig`, which override those of ``config``.

    Returns:
        A model of the same layers, names and shapes, not compiled.

    Raises:
        TypeError: ``model`` or ``config`` is of another type, or an option is no field.
        ValueError: The model is not built, is quantized already, holds NaN or infinite weights, or has no weight to be
            rounded; a pattern matches nothing; a group does not divide the inputs of a layer; the method lacks its
            data, or the data does not fit the model (another shape, ids that an embedding does not have). The layer is
            named.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(4, name="out")])
        >>> x = np.random.default_rng(0).normal(size=(128, 64)).astype("float32")
        >>> small = tg.quantize_weights(model, bits=4, group_size=32, method="gptq", calibration_data=x)
        >>> [weight.bits for weight in tg.convert(small, quantization="dynamic").weights.values() if weight.bits < 16]
        [4]
    """
    config = resolve_config(QuantizeWeightsConfig, config, options)
    check_built_model(model)
    config = by_attributes(model, config)
    check_layer_patterns(layers_by_weight(model), config.layers)
    batches = _batches(model, config)
    measured = set(LayerByLayer(model, batches, input_grams).measured) if batches else set[int]()
    known = {key for key, variable in _variables(model).items() if id(variable) in measured}
    methods: dict[tuple[str, str], Method] = {}

    def choose(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Choice:
        for kind in (FakeQuant, IntegerWeights):
            check_without(path, layer, chains, kind, "quantized")
        variables = weights_by_path(layer)
        found: dict[str, Sequence[TensorTransform]] = {}
        reasons: dict[str, str] = {}
        for weight, axes in row_axes(layer).items():
            chosen = settings_for(path, config, weight)
            if chosen is None:
                reasons[weight] = Reasons.SETTINGS
                continue
            before = chains.get(weight, Chain(weight, []))
            value = keras.ops.convert_to_numpy(before.apply(merged_value(layer, variables[weight])))
            subject = f"{layer_subject(path, layer)}, '{weight}'"
            check_finite(value, subject, "They cannot be rounded; load a healthy checkpoint.")
            rows = Rows(value.shape, axes)
            if rows.shape[0] == 1:
                reasons[weight] = Reasons.ONE_INPUT
                continue
            group_size = chosen.group_size
            if axes == (0,) and group_size is not None and rows.shape[0] < group_size:  # a row of a table
                group_size = None
            _check_group(subject, holder_of(path, weight), rows.shape[0], group_size, chosen)
            clustered = any(isinstance(transform, Codebook) for transform in before.transforms)
            method: Method = "rtn" if clustered or (path, weight) not in known else chosen.method
            note = "" if method == chosen.method else Reasons.NEAREST.format(method=chosen.method)
            rounding = IntegerWeights(chosen.bits, rows.axes, group_size, method == "awq", note)
            rounding.build(value.shape)
            rounding.start_from(np.asarray(rows.matrix(value)))
            methods[path, weight] = method
            found[weight] = [rounding]
        return Choice(found, reasons=reasons)

    result = compress(model, choose)
    if not has_transform(result, IntegerWeights):
        fix = "tg.summary(model) says why for each layer."
        raise invalid_state(f"model '{model.name}' has no weight that can be rounded.", fix)
    if batches:
        wanted = {id(v): methods[key] for key, v in _variables(result).items() if methods.get(key, "rtn") != "rtn"}
        round_at_once(result, wanted, batches)
    return result


def _variables(model: keras.Model) -> dict[tuple[str, str], keras.Variable]:
    """The weights of a model, by the path of the layer and that within it."""
    layers = [(path, getattr(layer, "stands_for", layer)) for path, layer in replaceable_layers(model)]
    return {(path, name): v for path, layer in layers for name, v in weights_by_path(layer).items()}


def _batches(model: keras.Model, config: QuantizeWeightsConfig) -> list[dict[str, np.ndarray]]:
    """The samples that weights are rounded on, if any are."""
    settings = [chosen for chosen in (config, *config.layers.values()) if chosen is not None]
    method = next((chosen.method for chosen in settings if chosen.method != "rtn"), None)
    if method is None:
        return []
    if config.calibration_data is None:
        fix = "Pass a few hundred training samples, without labels: "
        fix += f"tg.quantize_weights(model, method='{method}', calibration_data=x[:512])."
        raise invalid_state(f"method='{method}' looks at what weights multiply.", fix)
    return list(sample_batches(config.calibration_data, read_call_spec(model)))


def _check_group(
    subject: str, path: str, inputs: int, group_size: int | None, chosen: QuantizeWeightsConfig
) -> None:
    if group_size is not None and inputs % group_size:
        divisors = [size for size in range(2, inputs + 1) if inputs % size == 0]
        near = min(divisors, key=lambda size: abs(size - group_size)) if divisors else None
        expected = f"a group_size that divides its {inputs} inputs"
        same = f"bits={chosen.bits}, method='{chosen.method}', group_size={near}"
        fix = f"Give it another one: layers={{'{path}': tg.QuantizeWeightsConfig({same})}}."
        raise invalid_value(subject, expected=expected, received=group_size, fix=fix)
