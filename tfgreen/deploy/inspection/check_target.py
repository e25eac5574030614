"""Check a .tflite file against what a runtime or an accelerator can run."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ai_edge_litert.schema_py_generated import BuiltinOperator, ModelT, OperatorT, SubGraphT, TensorT

from tfgreen.checks import check_instance, check_option
from tfgreen.deploy.inspection.findings import Finding, Findings
from tfgreen.deploy.inspection.sparse_inference import NO_KERNEL_ON_X86, dense_because, refused_integers, stores_sparse
from tfgreen.deploy.inspection.target_tables import TARGETS, Target, TargetName
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.contents import scales_of
from tfgreen.deploy.tflite.flatbuffer import (
    buffer_bytes,
    dtype_name,
    is_dynamic,
    opens_batch_only,
    operator_name,
    text_of,
)

_INDICES = ("int32", "int64", "bool")  # and conditions, not values of a layer
_REPLACE, _TO_INT8 = "Replace its layer.", "Convert with quantization='int8'."

# What to do about an operator, where there is something better than to replace its layer.
_REMEDIES = {
    "DEQUANTIZE": "It stands beside a layer that computes in float32: print(lite.audit) shows which.",
    "QUANTIZE": "It stands beside a layer that computes in float32: print(lite.audit) shows which.",
    "DENSIFY": "Convert with sparse_weights=False.",
    "WHILE": "Give recurrent layers unroll=True and a fixed number of steps.",
    "GELU": "Use another activation, such as relu or hard_silu.",
}


def check_target(lite: LiteRTModel, target: TargetName) -> Findings:
    """Check a file against what a runtime or an accelerator can run.

    Args:
        lite: The file.
        target: ``"xnnpack"``, what LiteRT itself uses on phones and computers; ``"tflm"``, LiteRT (TensorFlow Lite)
            for Microcontrollers; or ``"edgetpu"``, Coral's accelerator.

    Returns:
        A finding for each kind of operator that the target lacks, with its Keras layer (or else its output tensor),
        what runs it instead and what to do; an error where the file cannot run. Checked are operators and dtypes, by
        ``target_tables.py``, which names its sources, not ranks, strides and other options of single kernels. For a
        file with sparse weights, whether XNNPACK has sparse kernels for it, and if not the first layer in the way.

    Raises:
        TypeError: ``lite`` is no ``LiteRTModel``.
        ValueError: There is no such target.

    Example:
        >>> import keras, tfgreen as tg
        >>> lite = tg.convert(keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="out")]))
        >>> tg.check_target(lite, "tflm")
        <Findings: nothing found>
        >>> print(tg.check_target(lite, "edgetpu"))
        error: The file (float32): the compiler of the Edge TPU takes int8 only. Convert with quantization='int8'.
    """
    check_instance("lite", lite, LiteRTModel, "a LiteRTModel")
    check_option("target", target, TARGETS)
    limits = TARGETS[target]
    if limits.compiled and lite.quantization != "int8":
        message = f"the compiler of {limits.title} takes int8 only."
        return Findings([Finding(f"The file ({lite.quantization})", message, _TO_INT8, "error")])
    sparse = _sparse(lite) if target == "xnnpack" and stores_sparse(lite) else ()
    return Findings([*_dynamic(lite, limits), *_edges(lite, limits), *_lacking(lite, limits), *sparse])


def _sparse(lite: LiteRTModel) -> Iterator[Finding]:
    """A finding on whether sparse kernels can run a file whose weights are stored sparse."""
    refused = refused_integers(lite)
    if refused:
        message = f"{refused} takes integers that are stored sparse, which XNNPACK refuses, and with them the file."
        fix = "Convert with tg.convert, which leaves integers dense."
        yield Finding("Weights stored sparse", message, fix, "error")
        return
    reason = dense_because(lite)
    where = f"elsewhere it runs it dense too: {reason}." if reason else "on ARM and WebAssembly it can run it sparse."
    fix = "int8 and fewer channels are faster everywhere" + (
        "; tg.PruneForLatencyOnXNNPack() says what sparse kernels take." if reason else "."
    )
    yield Finding("Weights stored sparse", f"{NO_KERNEL_ON_X86[:-1]}; {where}", fix[0].upper() + fix[1:])


def _graphs(lite: LiteRTModel, target: Target) -> list[SubGraphT]:
    """The subgraphs to look at: what a loop runs stays where the loop is."""
    return lite.parsed.subgraphs if "WHILE" in target.kernels else lite.parsed.subgraphs[:1]


def _dynamic(lite: LiteRTModel, target: Target) -> Iterator[Finding]:
    """A finding about tensors whose size the file leaves open."""
    graphs, batch = _graphs(lite, target), not opens_batch_only(lite.parsed.subgraphs[0])
    tensors = [tensor for graph in graphs for tensor in graph.tensors if is_dynamic(tensor, batch)]
    names = [f"'{text_of(tensor.name)}'" for tensor in tensors]
    if names and target.static_shapes:
        remedy = _REMEDIES["WHILE"] if "WHILE" in lite.operators else _REPLACE
        if batch:
            remedy = "Give every keras.Input a full shape and convert again."
        message = f"{target.title} needs every size fixed, so the file cannot run there."
        yield Finding(f"Tensors of a dynamic size ({_some(names)})", message, remedy, "error")


def _edges(lite: LiteRTModel, target: Target) -> Iterator[Finding]:
    """Findings about float inputs and outputs around an integer model."""
    if "float32" in target.dtypes:
        return
    for side, infos in (("input", lite.inputs), ("output", lite.outputs)):
        names = [f"'{info.name}'" for info in infos if info.dtype == "float32"]
        if names:
            does = "quantizes them before" if side == "input" else "turns them into float32 after"
            message = f"the CPU {does} {target.title} runs."
            yield Finding(f"Float32 {side}s ({_some(names)})", message, f"Convert with {side}_dtype='int8'.")


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
                output = next((text_of(graph.tensors[i].name) for i in operator.outputs), "")
                where = f"layer '{layers[-1]}'" if layers else f"tensor '{output}'"
                places.setdefault((operator_name(lite.parsed, operator), lack, remedy), []).append(where)
    outcome = target.elsewhere or "nothing else can run it there"
    for (name, lack, remedy), found in places.items():
        subject = f"{name} ({_some(list(dict.fromkeys(found)))})"
        yield Finding(subject, f"{lack}; {outcome}.", remedy, "warning" if target.elsewhere else "error")


def _at_edge(model: ModelT, graph: SubGraphT, operator: OperatorT) -> bool:
    """Whether an operator converts an input or output of the file; :func:`_edges` speaks of those."""
    name = operator_name(model, operator)
    at_input, at_output = operator.inputs[0] in graph.inputs, operator.outputs[0] in graph.outputs
    return (name == "QUANTIZE" and at_input) or (name == "DEQUANTIZE" and at_output)


def _lack(lite: LiteRTModel, graph: SubGraphT, operator: OperatorT, target: Target) -> tuple[str, str]:
    """What the target lacks to run an operator, and what to do; empty strings if it runs it."""
    name = operator_name(lite.parsed, operator)
    tensors = [graph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    dtypes = {dtype_name(tensor) for tensor in tensors}
    output = dtype_name(graph.tensors[operator.outputs[0]]) if len(operator.outputs) else ""
    remedy = _REMEDIES.get(name, "" if output in _INDICES and target.elsewhere else _REPLACE)
    if name not in target.kernels:
        if hasattr(BuiltinOperator, name):
            return f"{target.title} lacks it", remedy
        kind = "a TensorFlow operator (Flex)" if name.startswith("Flex") else "a custom operator"
        return f"it is {kind}, which {target.title} lacks", "Replace its layer with one of built-in operators."
    can = target.kernels[name]
    if output and output not in can:
        if output in ("int8", "int16") and "float32" in can:
            remedy = _REMEDIES.get(name, "ConvertConfig(keep_float=...) lets its layer compute in float32.")
        if output == "float32" and "int8" in can and lite.quantization != "int8":
            remedy = _TO_INT8
        return f"{target.title} computes it in {_words(can)}, not in {output}", remedy
    if target.per_channel is not None and name not in target.per_channel and any(map(_has_scales, tensors)):
        text = f"{target.title} reads one scale of a tensor there, and would compute something else without an error"
        return text, "Convert with quantization='int8' and calibration_data, so that its layer computes in integers."
    foreign = dtypes - target.dtypes
    if foreign:
        other = "Convert with quantization='float32' or 'int8'."
        return f"{target.title} has no {_words(foreign)} tensors", other if "float16" in foreign else remedy
    integers = {dtype_name(t) for t in tensors if len(buffer_bytes(lite.parsed, t))} & {"int4", "int8", "uint8"}
    if output == "float32" and integers and name not in target.hybrid and name != "DEQUANTIZE":
        text = f"{target.title} does not combine float inputs with {_words(integers)} weights (dynamic range)"
        return text, "Convert with quantization='int8' or 'float32'."
    return "", ""


def _has_scales(tensor: TensorT) -> bool:
    return scales_of(tensor)[0].size > 1


def _words(names: Collection[str]) -> str:
    *first, last = sorted(names)
    return f"{', '.join(first)} or {last}" if first else last


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
