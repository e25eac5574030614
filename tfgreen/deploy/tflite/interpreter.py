"""Run a .tflite file in LiteRT's interpreter, one sample after the other as on the device, or only try it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfgreen.deploy.tflite.contents import TensorInfo
from tfgreen.errors import ConversionError, invalid_state

Sample = Mapping[int, np.ndarray]  # index of an input -> what it stores
_BLOCK = 256  # samples quantized at a time: a float64 copy of a whole data set could fill the memory


def new_interpreter(
    content: bytes, threads: int, keep_tensors: bool, shapes: Mapping[int, Sequence[int]] | None = None
) -> Interpreter:
    """Make an interpreter; arguments and errors are those of ``LiteRTModel.new_interpreter``, inputs by index."""
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if keep_tensors else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_content=content,
            num_threads=threads,
            experimental_op_resolver_type=kernels,
            experimental_preserve_all_tensors=keep_tensors,
        )
        for index, shape in (shapes or {}).items():
            interpreter.resize_tensor_input(index, shape)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        at = f" with inputs of shapes {[tuple(shape) for shape in shapes.values()]}" if shapes else ""
        raise ConversionError(f"the LiteRT interpreter refuses the model{at}: {error}") from error
    return interpreter


def invoke(interpreter: Interpreter, when: str = "") -> None:
    """Run once; a failure is an error that says ``when``, as in :func:`naming_failures`."""
    with naming_failures(when):
        interpreter.invoke()


@contextlib.contextmanager
def naming_failures(when: str = "") -> Iterator[None]:
    """Where the block fails in LiteRT, raise a ``ConversionError`` that says ``when``; a ``ValueError`` if an id that
    is looked up is none of its table."""
    try:
        yield
    except RuntimeError as error:
        if re.search(r"gather.* out of bounds|indices_has_only_positive_elements", str(error)):
            raise invalid_state(
                f"the inputs hold an id that a table of the model does not have{when} (LiteRT: {error}).",
                "Pass ids from 0 to one below the number of its rows, as the tokenizer of the model makes them.",
            ) from error
        raise ConversionError(f"the LiteRT interpreter fails{when}: {error}") from error


def run_all(
    interpreter: Interpreter, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], x: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Run on arrays of shape ``(samples, *input shape)``; return real values of the outputs, or of any tensors kept."""
    resize(interpreter, {info.index: (1, *x[info.name].shape[1:]) for info in inputs})
    count, results = len(x[inputs[0].name]), {info.name: list[np.ndarray]() for info in outputs}
    for start in range(0, count, _BLOCK):
        stored = {info.index: info.to_stored(x[info.name][start : start + _BLOCK]) for info in inputs}
        for k in range(min(_BLOCK, count - start)):
            interpreter.reset_all_variables()  # a fused LSTM keeps its state between invocations
            for index, values in stored.items():
                interpreter.set_tensor(index, values[k : k + 1])
            invoke(interpreter, f" on sample {start + k}")
            for info in outputs:
                results[info.name].append(np.atleast_1d(interpreter.get_tensor(info.index)))
    return {info.name: info.to_real(np.concatenate(results[info.name])) for info in outputs}


def resize(interpreter: Interpreter, shapes: dict[int, tuple[int, ...]]) -> None:
    """Set dynamic dimensions to those of the data."""
    if shapes == {detail["index"]: tuple(detail["shape"]) for detail in interpreter.get_input_details()}:
        return
    for index, shape in shapes.items():
        interpreter.resize_tensor_input(index, shape)
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        raise ConversionError(f"the LiteRT interpreter refuses inputs of shape {shapes}: {error}") from error


def try_files(files: Sequence[tuple[bytes, Sequence[Sample]]]) -> Iterator[str]:
    """Run each file on its samples, or on zeros where there are none; yield why it is refused, "" where it runs: in a
    process of its own, because on some files LiteRT's runtime ends the process.

    What comes after the last of these is the file that ended the process.
    """
    for content, samples in files:
        try:
            _try(content, samples)
        except (RuntimeError, ValueError) as error:
            yield str(error)
        else:
            yield ""


def _try(content: bytes, samples: Sequence[Sample]) -> None:
    interpreter = Interpreter(model_content=content)
    details = interpreter.get_input_details()
    for sample in samples or [{detail["index"]: np.zeros(detail["shape"], detail["dtype"]) for detail in details}]:
        for index, values in sample.items():
            interpreter.resize_tensor_input(index, values.shape)  # does nothing for a shape that is the same
        interpreter.allocate_tensors()
        for index, values in sample.items():
            interpreter.set_tensor(index, values)
        interpreter.invoke()
