"""Keras model -> SavedModel with tensors called ``input_0``, ..., ``output_0``, ..."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from tfgreen.deploy.conversion.converter import SAVED_MODEL, SIGNATURE, errors_only
from tfgreen.deploy.conversion.open_sizes import open_size_calls
from tfgreen.deploy.conversion.operations import replace_operations
from tfgreen.deploy.conversion.record import Conversion, Traced
from tfgreen.deploy.storage.integer_weights import StoredIntegers
from tfgreen.errors import ConversionError, invalid_state
from tfgreen.model.call_spec import call_model
from tfgreen.model.graph import layers_without_batch
from tfgreen.model.layer_calls import LayerCalls, listening
from tfgreen.model.paths import holder_of, walk
from tfgreen.quantization.activation_quantizer import ActivationQuantizer
from tfgreen.quantization.kernels import has_costly_scales
from tfgreen.quantization.lowering import LOSES_IN_INTEGERS
from tfgreen.quantization.ranges import ActivationRange
from tfgreen.structure import Structure, leaf_names, name_leaves
from tfgreen.transforms.base import Chain
from tfgreen.transforms.compressed import CompressedModel, chained_weights
from tfgreen.transforms.exporting import exporting
from tfgreen.transforms.integer_weights import IntegerWeights

if TYPE_CHECKING:
    import tensorflow as tf

SCOPE = "call.{}"  # of the operations of one layer call; see deploy/tflite/layer_names.py


def export(conversion: Conversion, folder: Path) -> Conversion:
    """Trace ``model(inputs, training=False)`` on one sample and write it as a SavedModel into ``folder``.

    The batch is static unless asked for otherwise, because a dynamic one leaves SHAPE, STRIDED_SLICE and PACK operators
    in the file, which microcontrollers lack.

    Raises:
        ConversionError: The model cannot be traced with a batch of one sample, no range of it has seen data, or a layer
            of it looks values up in a table or writes to a variable.
    """
    import tensorflow as tf

    model, spec = conversion.model, conversion.spec
    names = _output_names(model)
    layers = {**dict(walk(model)), **dict(walk(getattr(model, "stands_for", model)))}
    outputs: Structure = None
    calls = LayerCalls(model, lambda number: tf.name_scope(SCOPE.format(number)))
    output_calls: list[int | None] = []

    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        nonlocal outputs
        result = call_model(model, spec, dict(zip([i.name for i in spec.inputs], tensors)))
        outputs, flat = name_leaves(result, lambda _, i: names[i] if i < len(names) else f"output_{i}")
        numbers = {id(leaf): n for n, made in enumerate(calls.outputs) for leaf in tf.nest.flatten(made)}
        output_calls.extend(numbers.get(id(leaf)) for leaf in flat)
        for leaf in flat if spec.batch not in (None, 1) else ():
            if leaf.shape[:1] == [spec.batch]:
                raise invalid_state(f"it returns {spec.batch} rows for it. Build it with an open batch size.")
        # The identity makes two outputs (or an input and an output) that are one tensor two.
        result = {f"output_{i}": tf.identity(tensor) for i, tensor in enumerate(flat)}
        has_samples = conversion.samples is not None
        calibrated = has_samples and conversion.config.integers
        replace_operations(tf.compat.v1.get_default_graph(), has_samples, calibrated)
        return result

    _check_ranges(model)
    batch = None if conversion.config.dynamic_batch else 1
    signature = [tf.TensorSpec((batch, *x.shape), x.dtype, name=f"input_{i}") for i, x in enumerate(spec.inputs)]
    updates = keras.StatelessScope()  # keeps the seeds of layers that draw numbers in inference too out of the file
    try:
        with exporting(), updates, listening(open_size_calls(model)), calls.listen():
            function = tf.function(serve, input_signature=signature, autograph=False).get_concrete_function()
    except Exception as error:  # noqa: B902 - whatever a user's call() raises
        text = re.sub(r"\x1b\[\d*m", "", str(error)).strip() or "no message"  # Keras prints headings in bold
        raise ConversionError(
            f"model '{conversion.name}': cannot be traced with a batch of one sample of shapes "
            f"{[item.shape for item in spec.inputs]}: {type(error).__name__}: {text[:800]}"
        ) from error
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    _check_no_tables(conversion, nodes, calls.paths)
    _check_no_state(conversion, updates, layers)
    # A SavedModel restores only variables it tracks; the converter turns any other one into a VAR_HANDLE operator
    # without a value, and the file then computes NaN. So track what the graph reads, whatever Keras lists.
    holder = tf.Module()
    holder.variables_read = list(function.variables)
    with errors_only():
        tf.saved_model.save(holder, str(folder / SAVED_MODEL), signatures={SIGNATURE: function})
    single = _without_batch(model, outputs, [*function.structured_outputs.values()])
    note = (
        f"Outputs {single} have no batch axis: the model returns one for a whole batch, and the file, which runs "
        "sample by sample, one for each sample."
    )
    mixed = layers_without_batch(model)
    inner = (
        f"Layers {mixed} return tensors without a batch axis: what they compute of a whole batch, the file, which runs "
        "sample by sample, computes of each sample."
    )
    traced = Traced(
        outputs=outputs,
        calls=tuple(calls.paths),
        output_calls=tuple(output_calls),
        loops=tuple(sorted({n.name.rpartition("/")[0] or n.name for n in nodes if n.op.endswith("While")})),
        fake_quantized=any(node.op.startswith("FakeQuant") for node in nodes),
        keeps_float=_keeps_float(conversion, layers.values()),
        image_layers=frozenset(path for path, la in layers.items() if hasattr(la, "get_random_transformation")),
        integers=_integers(model),
        costly_scales=has_costly_scales(model),
    )
    notes = [note] if single else [inner] if mixed else []
    return dataclasses.replace(conversion, traced=traced, notes=(*conversion.notes, *notes))


def _integers(model: keras.Model) -> tuple[StoredIntegers, ...]:
    """The weights that :func:`tfgreen.quantize_weights` has rounded."""
    found = []
    for path, _, weight in chained_weights(model):
        *before, rounding = weight.chain.transforms
        if isinstance(rounding, IntegerWeights):
            value = Chain(weight.chain.weight, before).apply(weight.value)
            real = keras.ops.convert_to_numpy(rounding.rows.matrix(weight.effective())).T
            factors = keras.ops.convert_to_numpy(rounding.factors).ravel() if rounding.scales_inputs else None
            scales = keras.ops.convert_to_numpy(rounding.scales).T
            layer = holder_of("" if isinstance(model, CompressedModel) else path, weight.chain.weight)
            found.append(StoredIntegers(layer, rounding.integers(value).T, scales, rounding.bits, factors, real))
    return tuple(found)


def _without_batch(model: keras.Model, outputs: Structure, traced: Sequence[tf.TensorSpec]) -> list[str]:
    """The names of the outputs whose first axis, if any, does not grow with the batch."""
    inputs, tensors = (getattr(model, side, None) or [] for side in ("inputs", "outputs"))
    is_open = bool(inputs) and all(x.shape[:1] == (None,) for x in inputs)
    pairs = zip(leaf_names(outputs), tensors or traced)
    return [name for name, x in pairs if not len(x.shape) or (is_open and x.shape[0] is not None)]


def _keeps_float(conversion: Conversion, layers: Iterable[keras.Layer]) -> bool:
    hooks = [getattr(layer, "activations", None) for layer in layers]
    reasons = {hook.reason for hook in hooks if isinstance(hook, ActivationQuantizer)}
    return conversion.config.keeps_float or not reasons.isdisjoint(LOSES_IN_INTEGERS)


def _check_ranges(model: keras.Model) -> None:
    ranges = [layer for _, layer in walk(model) if isinstance(layer, ActivationRange) and layer.built]
    if ranges and not any(range_.is_set for range_ in ranges):
        raise ConversionError(
            f"model '{model.name}' was quantized without calibration data and has not seen a training batch, so that "
            "its activations have no ranges. Fit it, or pass calibration_data=x[:512] when it is quantized."
        )


def _check_no_tables(conversion: Conversion, nodes: list[tf.compat.v1.NodeDef], paths: list[str]) -> None:
    found = [re.search(r"\bcall\.(\d+)/", node.name) for node in nodes if node.op.startswith("LookupTable")]
    if found:
        layers = list(dict.fromkeys(paths[int(place[1])] for place in found if place))
        raise ConversionError(
            f"model '{conversion.name}': layers {layers} look words or numbers up in a table, which the file would "
            "lack. Look them up before the model, and give it the indices."
        )


def _check_no_state(
    conversion: Conversion, updates: keras.StatelessScope, layers: Mapping[str, keras.Layer]
) -> None:
    """Only seeds may be written, which inference does not need. The model does not list the states of its RNNs."""
    known = {id(variable): variable for variable in conversion.model.variables}
    written = [known.get(number) for number in updates.state_mapping]
    if any(variable is None or variable.name != "seed_generator_state" for variable in written):
        stateful = [path for path, layer in layers.items() if getattr(layer, "stateful", False)]
        raise conversion.writes_variable(stateful or [variable.path for variable in written if variable is not None])


def _output_names(model: keras.Model) -> list[str]:
    """The names of the layers that make the outputs, where the model tells."""
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    return list(getattr(model, "output_names", None) or [])
