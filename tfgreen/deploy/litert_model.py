"""LiteRTModel: the .tflite file as it ships. Run it, score it, weigh it, look inside."""

from __future__ import annotations

import functools
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np

from tfgreen.deploy.accuracy import top1_accuracy
from tfgreen.deploy.compressed.coding import encode
from tfgreen.deploy.tflite import contents
from tfgreen.deploy.tflite.audit import Audit, audit_operators
from tfgreen.deploy.tflite.contents import TensorInfo, WeightTensor
from tfgreen.deploy.tflite.flatbuffer import parse, read_metadata
from tfgreen.errors import ConversionError, FileError, invalid_type, invalid_value
from tfgreen.files import write_atomic
from tfgreen.model.structure import Structure, match, pack
from tfgreen.quiet import quiet_native_output

_BLOCK = 256  # samples quantized at a time: a float64 copy of a whole data set could fill the memory


class LiteRTModel:
    """A LiteRT (.tflite) model: the bytes that ship, and everything that is read off them.

    Made by :func:`tfgreen.convert` and :func:`tfgreen.load_litert`. Input and output structures (one array, a list, a
    dict) are those of the Keras model. In a file that tfgreen did not write, several inputs are a list in the file's
    order (a dict by name will do too) and several outputs a dict by name.

    Args:
        content: The bytes of a .tflite file.
        source: The file's name, for errors.

    Attributes:
        content: The bytes.
        input_structure: Names of the inputs where ``predict`` takes their arrays: a name, a list or a dict.
        output_structure: The same for what ``predict`` returns.
        notes: Sentences on what the conversion did besides converting.
        metadata: All that tfgreen stored in the file besides: ``"tfgreen"``, the version that converted it,
            ``"source_sha256"``, a hash of the Keras model's architecture and weights, and ``"labels"``, the names of
            the classes where these were given. Empty in a file that it did not write.

    Raises:
        FileError: The bytes are no LiteRT model, or a truncated or damaged one.

    Example:
        >>> import keras
        >>> from tfgreen.deploy.convert import convert
        >>> model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="out")])
        >>> lite = convert(model)
        >>> lite.operators, lite.inputs[0].shape
        ({'FULLY_CONNECTED': 1}, (1, 3))
        >>> lite.predict(np.ones((5, 3))).shape
        (5, 2)
    """

    def __init__(self, content: bytes, source: str = "content") -> None:
        if not isinstance(content, bytes):
            raise invalid_type("content", expected="the bytes of a .tflite file", received=content)
        self.content = content
        self._model = parse(content, source)
        metadata = read_metadata(self._model, content)
        self._inputs, self._outputs = contents.places(self._model, "inputs"), contents.places(self._model, "outputs")
        names, results = list(self._inputs), list(self._outputs)
        self.input_structure: Structure = metadata.get("inputs", names[0] if len(names) == 1 else names)
        self.output_structure: Structure = metadata.get(
            "outputs", results[0] if len(results) == 1 else {name: name for name in results}
        )
        self.notes: tuple[str, ...] = tuple(metadata.get("notes", ()))
        self.metadata: dict[str, Any] = metadata

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        return type(self), (self.content,)  # an interpreter cannot be copied or pickled; the bytes can

    def __repr__(self) -> str:
        inputs = ", ".join(f"{t.name}: {t.dtype}{list(t.shape)}" for t in self.inputs)
        outputs = ", ".join(f"{t.name}: {t.dtype}{list(t.shape)}" for t in self.outputs)
        return f"<LiteRTModel {self.quantization}, {self.size_bytes} bytes, ({inputs}) -> ({outputs})>"

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
        return len(self.content)

    @functools.cached_property
    def gzip_bytes(self) -> int:
        """Size of the file in bytes after gzip at its highest level: what sparsity and clustering gain."""
        return len(gzip.compress(self.content, compresslevel=9, mtime=0))

    @functools.cached_property
    def operators(self) -> dict[str, int]:
        """Operator name -> count, those inside loop bodies included, most frequent first."""
        return contents.count_operators(self._model)

    @functools.cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs, in the file's order."""
        return tuple(contents.tensor_info(self._model, name, index) for name, index in self._inputs.items())

    @functools.cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The outputs, in the file's order."""
        return tuple(contents.tensor_info(self._model, name, index) for name, index in self._outputs.items())

    @functools.cached_property
    def output_steps(self) -> dict[str, float | None]:
        """Output name -> real units per quantization step; None where the output is not computed in integers.

        Known also for a float32 output of an int8 model, which is dequantized last.
        """
        return {name: contents.output_step(self._model, index) for name, index in self._outputs.items()}

    @functools.cached_property
    def quantization(self) -> str:
        """``"float32"``, ``"float16"``, ``"dynamic"``, ``"int8"`` or ``"int16x8"``, judged by what the file holds."""
        return contents.quantization_of(self._model, self.content)

    @functools.cached_property
    def float_operators(self) -> list[str]:
        """Names of the operators that compute in float32; in an int8 model those that have no int8 kernel."""
        return contents.float_operators(self._model)

    @functools.cached_property
    def audit(self) -> Audit:
        """Which operators compute each Keras layer, and in which dtypes; ``print`` it for a table."""
        return audit_operators(self._model, self.metadata.get("layers", ()))

    @functools.cached_property
    def weights(self) -> dict[str, WeightTensor]:
        """Tensor name -> stored weights: constants of rank 2 or more, each stored buffer once; no biases, no shapes."""
        return contents.read_weights(self._model, self.content)

    @property
    def sparsity(self) -> float:
        """Share of the elements of :attr:`weights` that stand for 0 (in an integer tensor: equal its zero point)."""
        total = sum(w.values.size for w in self.weights.values())
        return sum(w.zeros for w in self.weights.values()) / total if total else 0.0

    @property
    def nonzero_bytes(self) -> int:
        """Bytes of the elements of :attr:`weights` that do not stand for 0: what a sparse format would have to keep."""
        return sum(((w.values.size - w.zeros) * w.bits + 7) // 8 for w in self.weights.values())

    @functools.cached_property
    def coded_bytes(self) -> int:
        """Size of the file with each of :attr:`weights` in its shortest form: as it is, or as
        a codebook and indices of ceil(log2 k) bits for its k different values, with or without the zeros.

        What a device could store that looks weights up, as clustering prepares for; LiteRT itself does not.
        """
        return self.size_bytes - sum(
            max(w.stored_bytes - len(encode(w.values).data), 0) for w in self.weights.values()
        )

    def new_interpreter(self, threads: int = 1, keep_tensors: bool = False) -> Any:
        """Return an ``ai_edge_litert`` interpreter of this model with its tensors allocated.

        Args:
            threads: CPU threads, at least 1.
            keep_tensors: Whether every tensor can be read after a run, which takes LiteRT's own kernels instead of
                XNNPACK.

        Raises:
            ConversionError: The interpreter refuses the model, for instance an operator that it does not have.
        """
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        options: dict[str, Any] = {}
        if keep_tensors:
            options["experimental_preserve_all_tensors"] = True
            options["experimental_op_resolver_type"] = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            with quiet_native_output():  # it announces its XNNPACK delegate
                interpreter = Interpreter(model_content=self.content, num_threads=threads, **options)
                interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ConversionError(f"the LiteRT interpreter refuses the model: {error}") from error
        return interpreter

    @functools.cached_property
    def _interpreter(self) -> Any:
        return self.new_interpreter()

    def predict(self, x: Any) -> Any:
        """Run the model on every sample.

        Samples run one by one, as on the device: on a CPU a larger batch is no faster (0.26 ms a sample either way for
        ResNet-8), and a graph with a static batch may not allow one.

        Args:
            x: Real values of shape ``(samples, *input shape)`` in the structure of the Keras model's inputs, at least
                one sample. Quantized at the edge where the file's input is an integer, clipping at its range.

        Returns:
            float32 arrays of shape ``(samples, *output shape)`` in the structure of the Keras model's outputs,
            dequantized where the file's output is quantized. Outputs that are plain integers stay integers.

        Raises:
            ValueError: An input is missing, empty, of another shape, or cannot be held by the file's input.
            ConversionError: The interpreter fails.
        """
        arrays = self.checked_inputs(x)
        count = len(next(iter(arrays.values())))
        interpreter = self._sized_interpreter(arrays)
        results: dict[str, list[np.ndarray]] = {name: [] for name in self._outputs}
        for start in range(0, count, _BLOCK):
            stored = {info.name: info.to_stored(arrays[info.name][start : start + _BLOCK]) for info in self.inputs}
            for k in range(min(_BLOCK, count - start)):
                self._set_inputs(interpreter, {name: values[k : k + 1] for name, values in stored.items()})
                try:
                    interpreter.invoke()
                except RuntimeError as error:
                    raise ConversionError(f"the LiteRT interpreter fails on sample {start + k}: {error}") from error
                for name, index in self._outputs.items():
                    results[name].append(np.atleast_1d(interpreter.get_tensor(index)))
        joined = {info.name: info.to_real(np.concatenate(results[info.name])) for info in self.outputs}
        return pack(self.output_structure, joined)

    def evaluate(self, x: Any, y: Any) -> float:
        """Return the top-1 accuracy of a classifier with one output of shape ``(samples, classes)``.

        Args:
            x: As for :meth:`predict`.
            y: Integer labels of shape ``(samples,)`` or ``(samples, 1)``, or one-hot rows ``(samples, classes)``.

        Raises:
            ValueError: The model has several outputs or is no classifier, the lengths differ, or a label is no class.
        """
        if len(self._outputs) != 1 or len(self.outputs[0].shape) != 2 or self.outputs[0].shape[1] == 1:
            raise invalid_value(
                "evaluate",
                expected="a model with one output of shape (samples, classes), two classes or more",
                received=f"outputs {[(t.name, t.shape) for t in self.outputs]}",
                fix="Compute the score from predict() instead.",
            )
        scores = match(self.output_structure, self.predict(x), "output")[self.outputs[0].name]
        return top1_accuracy(scores, y)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file, whole or not at all; return its path.

        Raises:
            FileError: The folder is missing or cannot be written.
        """
        return write_atomic(path, self.content)

    def checked_inputs(self, x: Any) -> dict[str, np.ndarray]:
        """Take ``x`` apart into one array per input name, checking shapes and counts; see :meth:`predict`."""
        parts = match(self.input_structure, x, "x")
        arrays = {}
        for info in self.inputs:
            array = np.asarray(parts[info.name])
            if info.shape and info.shape[0] not in (1, None):
                raise invalid_value("model", expected="a file with a batch of 1", received=f"shape {info.shape}")
            fits = array.ndim == len(info.shape) and all(
                want in (None, have) for want, have in zip(info.shape[1:], array.shape[1:])
            )
            if not fits or not len(array):
                expected = f"shape {('samples', *info.shape[1:])} with at least one sample"
                raise invalid_value(f"x of input '{info.name}'", expected=expected, received=array.shape)
            if array.dtype.kind not in "fiub":
                raise invalid_type(f"x of input '{info.name}'", expected="an array of numbers", received=array.dtype)
            arrays[info.name] = array
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) != 1:
            raise invalid_value("x", expected="as many samples for every input", received=counts)
        return arrays

    def feed(self, interpreter: Any, x: dict[str, np.ndarray]) -> None:
        """Set the inputs of an interpreter to one sample: real values by input name, of shape ``(1, *input shape)``."""
        self._set_inputs(interpreter, {info.name: info.to_stored(x[info.name]) for info in self.inputs})

    def _set_inputs(self, interpreter: Any, stored: dict[str, np.ndarray]) -> None:
        if self._stateful:  # a fused LSTM keeps its state between invocations
            interpreter.reset_all_variables()
        for name, index in self._inputs.items():
            interpreter.set_tensor(index, stored[name])

    @functools.cached_property
    def _stateful(self) -> bool:
        return any(tensor.isVariable for graph in self._model.subgraphs for tensor in graph.tensors)

    @property
    def parsed(self) -> Any:
        """The schema's ``ModelT``, to be read only."""
        return self._model

    def _sized_interpreter(self, arrays: dict[str, np.ndarray]) -> Any:
        """The interpreter, with dynamic dimensions set to those of the data."""
        interpreter = self._interpreter
        shapes = {d["index"]: tuple(d["shape"]) for d in interpreter.get_input_details()}
        wanted = {index: (1, *arrays[name].shape[1:]) for name, index in self._inputs.items()}
        if shapes != wanted:
            for index, shape in wanted.items():
                interpreter.resize_tensor_input(index, shape)
            try:
                with quiet_native_output():
                    interpreter.allocate_tensors()
            except RuntimeError as error:
                raise ConversionError(f"the LiteRT interpreter refuses inputs of shape {wanted}: {error}") from error
        return interpreter


def load_litert(path: str | os.PathLike[str]) -> LiteRTModel:
    """Read a .tflite file, written by tfgreen or by anything else.

    Raises:
        FileError: The file is missing, no LiteRT model, truncated or damaged.

    Example:
        >>> load_litert("missing.tflite")
        Traceback (most recent call last):
        ...
        tfgreen.errors.FileError: missing.tflite: cannot be read: No such file or directory.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}.") from error
    return LiteRTModel(content, source=str(path))
