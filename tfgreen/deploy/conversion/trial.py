"""Try a new file where a crash of LiteRT's runtime cannot end the user's process, and name the operator."""

from __future__ import annotations

from collections.abc import Sequence

from tfgreen.deploy.conversion.judge import cannot_run, with_notes
from tfgreen.deploy.conversion.open_sizes import SizedRun
from tfgreen.deploy.conversion.record import Conversion
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.storage.sparse_weights import store_sparse
from tfgreen.deploy.tflite.apart import Apart
from tfgreen.deploy.tflite.audit import OperatorStatus
from tfgreen.deploy.tflite.cut_operator import cut_operator, reason_not_to_cut
from tfgreen.deploy.tflite.interpreter import try_files
from tfgreen.errors import ConversionError

_SAMPLES = 8


def try_file(conversion: Conversion, lite: LiteRTModel, runs: Sequence[SizedRun], apart: Apart) -> LiteRTModel:
    """Run the artifact on the first samples and at several sizes, or else on zeros, and return it: with sparse weights,
    where they are wanted and run as well. A file that is refused is left to who runs it on these again.

    Raises:
        ConversionError: LiteRT's runtime crashes on the file, or refuses it on zeros; or on the sparse one, where
            ``sparse_weights=True``.
    """
    config = conversion.config
    may = config.sparse_weights is not False and config.quantization in ("float32", "float16")
    sparse = store_sparse(lite, always=config.sparse_weights is True) if may else None
    if any(operator.startswith("Flex") for operator in lite.operators):
        return sparse if sparse is not None and config.sparse_weights is True else lite
    batches = [run.inputs for run in runs]
    if conversion.samples is not None:
        batches.append({name: array[:_SAMPLES] for name, array in conversion.samples.items()})
    stored = [{info.index: info.to_stored(arrays[info.name]) for info in lite.inputs} for arrays in batches]
    samples = [
        {index: array[k : k + 1] for index, array in arrays.items()}
        for arrays in stored
        for k in range(min(map(len, arrays.values())))
    ]
    ended = apart.run([(file.content, samples) for file in (lite, sparse) if file is not None])
    if ended.items:
        if ended.items[0] and not batches and not conversion.has_open_sizes:
            raise cannot_run(conversion, lite, ConversionError(ended.items[0]))
        if sparse is None or ended.items[0]:
            return lite
        refused = ended.items[1] if len(ended.items) > 1 else f"its runtime crashes ({ended.how})"
        return _dense(conversion, lite, refused) if refused else sparse
    row = _culprit(lite)
    where, remedy = "no operator does so alone", "Convert with another quantization."
    if row is not None:
        where, remedy = f"at {row.operator} of {row.where}", "Replace its layer, or convert with another quantization."
        if conversion.config.integers and row.layers:
            remedy = f"Let its layers compute in float32: keep_float={list(row.layers)}."
    raise conversion.refused(f"LiteRT's runtime crashes on the file ({ended.how}), {where}. {remedy}")


def _dense(conversion: Conversion, lite: LiteRTModel, refused: str) -> LiteRTModel:
    """The artifact with a note on why it is not stored sparse."""
    if conversion.config.sparse_weights is True:
        raise conversion.refused(f"LiteRT does not run it with sparse_weights=True: {refused}. Leave that out.")
    return with_notes(lite, f"Kernels are stored dense, though fewer bytes would do: LiteRT refuses that: {refused}.")


def _culprit(lite: LiteRTModel) -> OperatorStatus | None:
    """The first operator that crashes alone, or else is refused; None where each of them runs."""
    operators = lite.parsed.subgraphs[0].operators
    cut = [number for number, operator in enumerate(operators) if not reason_not_to_cut(lite.parsed, operator)]
    with Apart(try_files) as apart:
        ended = apart.run([(cut_operator(lite.parsed, number, {})[0], []) for number in cut])
    outcomes = [*ended.items, *(["crash"] if ended.crashed else [])]
    return next((lite.audit.operators[number] for number, outcome in zip(cut, outcomes) if outcome), None)
