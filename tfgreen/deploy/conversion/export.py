"""Keras model -> SavedModel with tensors called ``input_0``, ..., ``output_0``, ..."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from tfgreen.errors import ConversionError
from tfgreen.model.call_spec import CallSpec, call_model
from tfgreen.model.structure import Structure, name_leaves
from tfgreen.quiet import quiet_native_output

SCOPE = "call.{}"  # of the operations of one layer call; see deploy/tflite/layer_names.py


@dataclasses.dataclass(frozen=True)
class Exported:
    """What the traced graph shows: the structure of its outputs by name, its loops, and whether it was trained to
    be quantized."""

    outputs: Structure
    loops: tuple[str, ...]
    fake_quantized: bool
    calls: tuple[str, ...]  # the path of the layer of each call, whose number is in the names of its operations
    output_calls: tuple[int | None, ...]  # the call that made each output


def export(model: Any, spec: CallSpec, folder: Path, dynamic_batch: bool = False) -> Exported:
    """Trace ``model(inputs, training=False)`` on one sample and write it as a SavedModel into ``folder``.

    The batch is static unless asked for otherwise, because a dynamic one leaves SHAPE, STRIDED_SLICE and PACK operators
    in the file, which microcontrollers lack.

    Raises:
        ConversionError: The model cannot be traced with a batch of one sample, or a layer of it looks values up in a
            table or writes to a variable.
    """
    import keras
    import tensorflow as tf

    from tfgreen.model.layer_calls import LayerCalls
    from tfgreen.transforms.exporting import exporting

    outputs: Structure = None
    calls = LayerCalls(model, lambda number: tf.name_scope(SCOPE.format(number)))
    made_by: list[int | None] = []

    def serve(*tensors: Any) -> dict[str, Any]:
        nonlocal outputs
        result = call_model(model, spec, dict(zip([i.name for i in spec.inputs], tensors)))
        names = _output_names(model)
        outputs, flat = name_leaves(result, lambda _, i: names[i] if i < len(names) else f"output_{i}")
        numbers = {id(leaf): n for n, made in enumerate(calls.outputs) for leaf in tf.nest.flatten(made)}
        made_by.extend(numbers.get(id(leaf)) for leaf in flat)
        # The identity keeps two outputs (or an input and an output) that are one tensor apart.
        return {f"output_{i}": tf.identity(tensor) for i, tensor in enumerate(flat)}

    batch = None if dynamic_batch else 1
    signature = [tf.TensorSpec((batch, *x.shape), x.dtype, name=f"input_{i}") for i, x in enumerate(spec.inputs)]
    updates = keras.StatelessScope()  # keeps the seeds of layers that draw numbers in inference too out of the file
    try:
        with exporting(), updates, calls.listen():
            function = tf.function(serve, input_signature=signature, autograph=False).get_concrete_function()
    except Exception as error:  # noqa: B902 - whatever a user's call() raises
        text = re.sub(r"\x1b\[\d*m", "", str(error)).strip() or "no message"  # Keras prints headings in bold
        raise ConversionError(
            f"model '{model.name}': cannot be traced with a batch of one sample of shapes "
            f"{[x.shape for x in spec.inputs]}: {type(error).__name__}: {text[:800]}"
        ) from error
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    _check_no_tables(model, nodes, calls.paths)
    _check_no_state(model, updates)
    # A SavedModel restores only variables it tracks; the converter turns any other one into a VAR_HANDLE operator
    # without a value, and the file then computes NaN. So track what the graph reads, whatever Keras lists.
    holder = tf.Module()
    holder.variables_read = list(function.variables)
    with quiet_native_output():
        tf.saved_model.save(holder, str(folder), signatures={"serving_default": function})
    loops = sorted({node.name.rpartition("/")[0] or node.name for node in nodes if node.op.endswith("While")})
    fake_quantized = any(node.op.startswith("FakeQuant") for node in nodes)
    return Exported(outputs, tuple(loops), fake_quantized, tuple(calls.paths), tuple(made_by))


def _check_no_tables(model: Any, nodes: list[Any], paths: list[str]) -> None:
    found = [re.search(r"\bcall\.(\d+)/", node.name) for node in nodes if node.op.startswith("LookupTable")]
    if found:
        layers = list(dict.fromkeys(paths[int(place[1])] for place in found if place))
        raise ConversionError(
            f"model '{model.name}': layers {layers} look words or numbers up in a table, which the file would lack. "
            "Look them up before the model, and give it the indices."
        )


def _check_no_state(model: Any, updates: Any) -> None:
    """Only seeds may be written, which inference does not need. The model does not list the states of its RNNs."""
    from tfgreen.model.paths import walk

    known = {id(variable): variable for variable in model.variables}
    written = [known.get(number) for number in updates.state_mapping]
    if any(variable is None or variable.name != "seed_generator_state" for variable in written):
        stateful = [path for path, layer in walk(model) if getattr(layer, "stateful", False)]
        paths = [variable.path for variable in written if variable is not None]
        raise ConversionError(
            f"model '{model.name}': a layer writes to a variable during inference (a stateful RNN?), and a LiteRT file "
            f"starts without its value: {stateful or paths}. Build the model without state (stateful=False)."
        )


def _output_names(model: Any) -> list[str]:
    """The names of the layers that make the outputs, where the model tells."""
    import keras

    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    return list(getattr(model, "output_names", None) or [])
