"""Check a .tflite file against what a runtime or an accelerator can run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from tfgreen.deploy.inspection.target_tables import TARGETS, Target
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.flatbuffer import buffer_bytes, dtype_name, operator_name, text_of
from tfgreen.errors import invalid_type, invalid_value

_INDICES = ("int32", "int64", "bool")  # what holds indices and conditions rather than values of a layer
_REPLACE = "Replace its layer."

# What to do about an operator, where there is something better than to replace its layer.
_REMEDIES = {
    "DEQUANTIZE": "It stands beside a layer that computes in float32: print(lite.audit) shows which.",
    "QUANTIZE": "It stands beside a layer that computes in float32: print(lite.audit) shows which.",
    "WHILE": "Give recurrent layers unroll=True and a fixed number of steps.",
    "GELU": "Use another activation, such as relu or hard_silu.",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something in a file that a target lacks; ``fatal`` if the file cannot run there at all. Prints as its text."""

    fatal: bool
    text: str

    def __str__(self) -> str:
        return self.text


def check_target(lite: LiteRTModel, target: str) -> list[Finding]:
    """Check a file against what a runtime or an accelerator can run.

    Args:
        lite: The file.
        target: ``"xnnpack"``, what LiteRT itself uses on phones and computers; ``"tflm"``, LiteRT (TensorFlow Lite)
            for Microcontrollers; ``"edgetpu"``, Coral's accelerator; or ``"nnapi"``, Android's neural network API.

    Returns:
        A :class:`Finding` for each kind of operator that the target lacks, with its Keras layer (or else the tensor it
        makes), what becomes of it and what to do; those that are fatal first. Empty when the file fits. The tables in
        ``target_tables.py``, which name their sources, hold operators and dtypes, not every option of every
        kernel: a file without findings may still meet one of those.

    Raises:
        TypeError: ``lite`` is no ``LiteRTModel``.
        ValueError: There is no such target.

    Example:
        >>> import keras, tfgreen as tg
        >>> lite = tg.convert(keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="out")]))
        >>> tg.check_target(lite, "tflm")
        []
        >>> print(tg.check_target(lite, "edgetpu")[0])
        The file is float32: the compiler of the Edge TPU takes int8 only. Convert with quantization='int8'.
    """
    if not isinstance(lite, LiteRTModel):
        raise invalid_type("lite", expected="a LiteRTModel", received=lite)
    if target not in TARGETS:
        raise invalid_value("target", expected=f"one of {sorted(TARGETS)}", received=repr(target))
    limits = TARGETS[target]
    if limits.compiled and lite.quantization != "int8":
        why = f"The file is {lite.quantization}: the compiler of {limits.title} takes int8 only."
        return [Finding(True, f"{why} Convert with quantization='int8'.")]
    found = [*_dynamic(lite, limits), *_edges(lite, limits), *_lacking(lite, limits)]
    return sorted(found, key=lambda finding: not finding.fatal)


def _graphs(lite: LiteRTModel, target: Target) -> list[Any]:
    """The subgraphs to look at: what a loop runs stays where the loop is."""
    return lite.parsed.subgraphs if "WHILE" in target.kernels else lite.parsed.subgraphs[:1]


def _dynamic(lite: LiteRTModel, target: Target) -> Iterator[Finding]:
    """The finding about tensors whose size the file leaves open."""
    names = [
        f"'{text_of(tensor.name)}'"
        for graph in _graphs(lite, target)
        for tensor in graph.tensors
        if tensor.shapeSignature is not None and (tensor.shapeSignature < 0).any()
    ]
    if names and target.static_shapes:
        fatal = target.compiled or not target.elsewhere
        outcome = "the file cannot run there" if fatal else "the CPU runs what depends on them"
        remedy = _REMEDIES["WHILE"] if "WHILE" in lite.operators else _REPLACE
        if any(None in info.shape for info in lite.inputs):
            remedy = "Give every keras.Input a full shape and convert again."
        text = f"Tensors of a dynamic size ({_some(names)}): {target.title} needs every size fixed, so {outcome}."
        yield Finding(fatal, f"{text} {remedy}")


def _edges(lite: LiteRTModel, target: Target) -> Iterator[Finding]:
    """Findings about float inputs and outputs around an integer model."""
    if "float32" in target.dtypes:
        return
    for side, infos in (("input", lite.inputs), ("output", lite.outputs)):
        names = [f"'{info.name}'" for info in infos if info.dtype == "float32"]
        if names:
            does = "quantizes them before" if side == "input" else "turns them into float32 after"
            text = f"Float32 {side}s ({_some(names)}): the CPU {does} {target.title} runs."
            yield Finding(False, f"{text} Convert with {side}_dtype='int8'.")


def _lacking(lite: LiteRTModel, target: Target) -> Iterator[Finding]:
    """A finding for each operator and each reason why the target does not run it."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for graph in _graphs(lite, target):
        main = graph is lite.parsed.subgraphs[0]
        for index, operator in enumerate(graph.operators or []):
            if main and "float32" not in target.dtypes and _at_edge(lite.parsed, graph, operator):
                continue
            lack, remedy = _lack(lite, graph, operator, target)
            if lack:
                layers = lite.audit.operators[index].layers if main else ()
                made = next((text_of(graph.tensors[i].name) for i in operator.outputs), "")
                where = f"layer '{layers[-1]}'" if layers else f"tensor '{made}'"
                places.setdefault((operator_name(lite.parsed, operator), lack, remedy), []).append(where)
    outcome = target.elsewhere or "nothing else can run it there"
    for (name, lack, remedy), found in places.items():
        text = f"{name} ({_some(list(dict.fromkeys(found)))}): {lack}; {outcome}."
        yield Finding(not target.elsewhere, f"{text} {remedy}".rstrip())


def _at_edge(model: Any, graph: Any, operator: Any) -> bool:
    """Whether an operator converts an input or output of the file; :func:`_edges` speaks of those."""
    name = operator_name(model, operator)
    return (name == "QUANTIZE" and operator.inputs[0] in graph.inputs) or (
        name == "DEQUANTIZE" and operator.outputs[0] in graph.outputs
    )


def _lack(lite: LiteRTModel, graph: Any, operator: Any, target: Target) -> tuple[str, str]:
    """What the target lacks to run an operator, and what to do; empty strings if it runs it."""
    from ai_edge_litert import schema_py_generated as schema

    name = operator_name(lite.parsed, operator)
    tensors = [graph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    dtypes = {dtype_name(tensor) for tensor in tensors}
    made = dtype_name(graph.tensors[operator.outputs[0]]) if len(operator.outputs) else ""
    remedy = _REMEDIES.get(name, "" if made in _INDICES and target.elsewhere else _REPLACE)
    if name not in target.kernels:
        if hasattr(schema.BuiltinOperator, name):
            return f"{target.title} lacks it", remedy
        kind = "a TensorFlow operator (Flex)" if name.startswith("Flex") else "a custom operator"
        return f"it is {kind}, which {target.title} lacks", "Replace its layer with one of built-in operators."
    can = target.kernels[name]
    if made and made not in can:
        if made in ("int8", "int16") and "float32" in can:
            remedy = _REMEDIES.get(name, "ConvertConfig(keep_float=...) lets its layer compute in float32.")
        if made == "float32" and "int8" in can and lite.quantization != "int8":
            remedy = "Convert with quantization='int8'."
        return f"{target.title} computes it in {_words(can)}, not in {made}", remedy
    foreign = dtypes - target.dtypes
    if foreign:
        other = "Convert with quantization='float32' or 'int8'."
        return f"{target.title} has no {_words(foreign)} tensors", other if "float16" in foreign else remedy
    integers = {dtype_name(t) for t in tensors if len(buffer_bytes(lite.parsed, t.buffer, lite.content))}
    integers &= {"int4", "int8", "uint8"}
    if made == "float32" and integers and name not in target.hybrid and name != "DEQUANTIZE":
        text = f"{target.title} does not combine float inputs with {_words(integers)} weights (dynamic range)"
        return text, "Convert with quantization='int8' or 'float32'."
    return "", ""


def _words(names: Any) -> str:
    *first, last = sorted(names)
    return f"{', '.join(first)} or {last}" if first else last


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
