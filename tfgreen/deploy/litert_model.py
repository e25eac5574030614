"""LiteRTModel: the .tflite file as it ships. Run it, score it, weigh it, look inside."""

from __future__ import annotations

import functools
import gzip
import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, overload

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.schema_py_generated import ModelT

from tfgreen.checks import check_instance, check_integer, check_option
from tfgreen.deploy.compressed.coding import encode
from tfgreen.deploy.metrics import Metrics, check_classifier, count_nan, keras_metrics, top1_accuracy
from tfgreen.deploy.tflite import contents
from tfgreen.deploy.tflite.arena import ArenaEstimate, estimate_arena
from tfgreen.deploy.tflite.audit import Audit, audit_operators
from tfgreen.deploy.tflite.c_array import HEADERS, SOURCES, c_source
from tfgreen.deploy.tflite.contents import Quantization
from tfgreen.deploy.tflite.flatbuffer import parse, read_metadata
from tfgreen.deploy.tflite.interpreter import new_interpreter, run_all
from tfgreen.deploy.tflite.stored_weights import WeightTensor, read_weights
from tfgreen.errors import ConversionError, invalid_state, invalid_value
from tfgreen.files import check_path, reading, write_atomic
from tfgreen.model.samples import joined, labelled_batches
from tfgreen.structure import CallSpec, InputSpec, Structure, match, pack
from tfgreen.tables import html_table
from tfgreen.typing import Arrays, FilePath, PlainDict, Samples

_KINDS = {
    "dynamic": "dynamic-range (weights int8, activations float)",
    "int16x8": "int16x8 (weights int8, activations int16)",
}
_HIGHEST_GZIP = 2**23  # bytes up to which gzip's highest level takes no more than seconds


class LiteRTModel:
    """A LiteRT (.tflite) model: the bytes that ship, and everything that is read off them.

    :func:`tfgreen.convert` and :func:`tfgreen.load_litert` return one. Several threads may use it. Inputs and outputs
    (one array, a list, a dict) are those of the Keras model; in a file that tfgreen did not write, several inputs are a
    list in the file's order, or a dict by name, and several outputs a dict by name.

    Args:
        content: The bytes of a .tflite file.
        source: The file's name, for errors.

    Attributes:
        parsed: The file as the schema's ``ModelT``, to be read only.
        inputs, outputs: A :class:`TensorInfo` for each, in the file's order.
        input_structure: Names of the inputs where ``predict`` takes their arrays: a name, a list or a dict.
        output_structure: The same for what ``predict`` returns.
        notes: Sentences on what the conversion did besides converting; of a file of another tool, on signatures that
            are not run.
        metadata: What tfgreen stored in the file: its version (``"tfgreen"``), a hash of the Keras model's architecture
            and weights (``"source_sha256"``), class names if given (``"labels"``). Empty in a file of another tool.

    Raises:
        FileError: The bytes are no LiteRT model, or a truncated or damaged one.

    Example:
        >>> import keras, tfgreen as tg
        >>> lite = tg.convert(keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="out")]))
        >>> lite.inputs[0].shape, [weight.values.shape for weight in lite.weights.values()]
        ((1, 3), [(2, 3)])
        >>> lite.predict(np.ones((5, 3))).shape
        (5, 2)
        >>> lite.operators, lite.sparsity, lite.arena_bytes.planned_bytes
        ({'FULLY_CONNECTED': 1}, 0.0, 32)
        >>> print(lite.audit)
        operator         dtypes                       layers
        FULLY_CONNECTED  float32, float32 -> float32  out
    """

    def __init__(self, content: bytes, source: str = "content") -> None:
        check_instance("content", content, bytes, "the bytes of a .tflite file")
        self.content = content
        self.parsed: ModelT = parse(content, source)
        self.metadata: PlainDict = read_metadata(self.parsed, source)
        self.inputs = contents.edge_tensors(self.parsed, "inputs")
        self.outputs = contents.edge_tensors(self.parsed, "outputs")
        self._lock = threading.Lock()  # of the one interpreter
        self._interpreter: Interpreter | None = None
        inputs, outputs = ([info.name for info in side] for side in (self.inputs, self.outputs))
        by_name = {name: name for name in outputs}
        self.input_structure: Structure = self.metadata.get("inputs", inputs[0] if len(inputs) == 1 else inputs)
        self.output_structure: Structure = self.metadata.get("outputs", outputs[0] if len(outputs) == 1 else by_name)
        self.notes: tuple[str, ...] = tuple(self.metadata.get("notes", contents.signature_notes(self.parsed)))

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        return type(self), (self.content,)  # an interpreter cannot be copied or pickled; the bytes can

    def __repr__(self) -> str:
        sides = [[f"{t.name}: {t.dtype}{list(t.shape)}" for t in side] for side in (self.inputs, self.outputs)]
        inputs, outputs = map(", ".join, sides)
        kind = _KINDS.get(self.quantization, self.quantization)
        return f"<LiteRTModel {kind}, {self.size_bytes} bytes, ({inputs}) -> ({outputs})>"

    def _repr_html_(self) -> str:
        facts = {
            "quantization": _KINDS.get(self.quantization, self.quantization),
            "bytes": f"{self.size_bytes:,} ({self.gzip_bytes:,} after gzip)",
            "sparsity": f"{self.sparsity:.1%}",
            "operators": ", ".join(f"{count} {name}" for name, count in self.operators.items()),
        }
        sides = (("input", self.inputs), ("output", self.outputs))
        facts |= {f"{side} {t.name}": f"{t.dtype}{list(t.shape)}" for side, infos in sides for t in infos}
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return html_table(("file", "value"), list(facts.items()), "LiteRT model", left=-1) + notes

    def to_dict(self) -> PlainDict:
        """What the file holds, as plain values: sizes, operators, inputs and outputs, notes."""
        return {
            "quantization": self.quantization,
            **{name: getattr(self, name) for name in ("size_bytes", "gzip_bytes", "nonzero_bytes", "sparsity")},
            "operators": dict(self.operators),
            **{side: [info.to_dict() for info in getattr(self, side)] for side in ("inputs", "outputs")},
            "notes": list(self.notes),
        }

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
        return len(self.content)

    @functools.cached_property
    def gzip_bytes(self) -> int:
        """Size of the file in bytes after gzip: what sparsity and clustering gain.

        Files up to 8 MB are compressed at gzip's highest level, 9. Larger ones are at level 4, which takes seconds
        where 9 takes minutes; the size is up to a few per cent larger.
        """
        return len(gzip.compress(self.content, compresslevel=9 if self.size_bytes <= _HIGHEST_GZIP else 4, mtime=0))

    @functools.cached_property
    def operators(self) -> dict[str, int]:
        """Operator name -> count, those inside loop bodies included, most frequent first."""
        return contents.count_operators(self.parsed)

    @functools.cached_property
    def output_scales(self) -> dict[str, float | None]:
        """Output name -> quantization scale, also of a float output that is dequantized last; None for any other."""
        return {info.name: contents.output_scale(self.parsed, info.index) for info in self.outputs}

    @property
    def softmax_outputs(self) -> set[str]:
        """Names of the outputs that a softmax over the last axis makes."""
        return {info.name for info in self.outputs if contents.ends_in_softmax(self.parsed, info.index)}

    @functools.cached_property
    def quantization(self) -> Quantization:
        """``"float32"``, ``"float16"``, ``"dynamic"`` (dynamic-range: weights int8, activations float), ``"int8"`` or
        ``"int16x8"`` (weights int8, activations int16), judged by what the file holds."""
        return contents.quantization_of(self.parsed)

    @functools.cached_property
    def float_operators(self) -> list[str]:
        """Names of the operators that compute in float32; in an int8 model those that have no int8 kernel."""
        return contents.float_operators(self.parsed)

    @functools.cached_property
    def audit(self) -> Audit:
        """Which operators compute each Keras layer, and in which dtypes; ``print`` it for a table."""
        return audit_operators(self.parsed, self.metadata.get("layers", ()))

    @functools.cached_property
    def weights(self) -> dict[str, WeightTensor]:
        """Tensor name -> stored weights: constants of rank 2 or more, each stored buffer once; no biases, no shapes."""
        return read_weights(self.parsed)

    @property
    def sparsity(self) -> float:
        """Share of the elements of :attr:`weights` that stand for 0 (in an integer tensor: equal its zero point)."""
        total = sum(w.values.size for w in self.weights.values())
        return sum(w.zeros for w in self.weights.values()) / total if total else 0.0

    @property
    def nonzero_bytes(self) -> int:
        """Bytes of the elements of :attr:`weights` that do not stand for 0: what a sparse format has to store."""
        return sum(((w.values.size - w.zeros) * w.bits + 7) // 8 for w in self.weights.values())

    @functools.cached_property
    def coded_bytes(self) -> int:
        """Size of the file if LiteRT could look weights up: each coded as in :func:`tfgreen.save_compressed`."""
        saved = (weight.stored_bytes - len(encode(weight.values).data) for weight in self.weights.values())
        return self.size_bytes - sum(max(count, 0) for count in saved)

    @functools.cached_property
    def arena_bytes(self) -> ArenaEstimate:
        """An estimate of the tensor arena that LiteRT for Microcontrollers needs; ``print`` it for a sentence.

        Scratch buffers of kernels (an int8 TRANSPOSE_CONV takes 4 bytes per element of its output) and what the
        interpreter itself holds are not in it: only ``MicroInterpreter::arena_used_bytes()`` on the device knows them.

        Raises:
            ValueError: A size is dynamic, a tensor has no fixed size, or the file has loops or branches.
        """
        return estimate_arena(self.parsed, self.audit)

    def new_interpreter(
        self, threads: int = 1, keep_tensors: bool = False, input_shapes: Mapping[str, Sequence[int]] | None = None
    ) -> Interpreter:
        """Return an ``ai_edge_litert`` interpreter of this model with its tensors allocated.

        LiteRT writes one line about its XNNPACK delegate to stderr when the first interpreter of a process is made.

        Args:
            threads: CPU threads, at least 1.
            keep_tensors: Whether every tensor can be read after a run, on LiteRT's own kernels instead of XNNPACK.
            input_shapes: Name of an input -> its shape, batch included. What is not given, or open in the file
                (``None`` in ``inputs``), has the size that the file states: 1 where that is open.

        Raises:
            ValueError, TypeError: ``threads`` or ``input_shapes`` is something else.
            ConversionError: The interpreter refuses the model, for instance an operator that it does not have, or the
                shapes.
        """
        check_integer("threads", threads, minimum=1, maximum=1024)  # a machine runs out of more
        check_instance("input_shapes", input_shapes, (Mapping, type(None)), "a dict of input name -> shape, or None")
        indices = {info.name: info.index for info in self.inputs}
        for name, shape in (input_shapes or {}).items():
            check_option("input_shapes, name", name, indices)
            check_instance(f"input_shapes['{name}']", shape, (Sequence, np.ndarray), "a tuple of integers")
            for size in shape:
                check_integer(f"input_shapes['{name}']", size, minimum=0)
        shapes = {indices[name]: tuple(map(int, shape)) for name, shape in (input_shapes or {}).items()}
        return new_interpreter(self.content, int(threads), keep_tensors, shapes)

    def predict(self, x: Samples) -> Any:
        """Run the model on every sample, one by one as on the device: a static batch may not allow more.

        Args:
            x: Real values of shape ``(samples, *input shape)`` in the structure of the inputs, at least one sample; or
                batches of them, with or without targets: a ``tf.data.Dataset``, ``PyDataset`` or generator. They are
                quantized, and clipped to the range, where the file's input is.

        Returns:
            float32 arrays of shape ``(samples, *output shape)`` in the structure of the outputs, dequantized where the
            file's output is quantized. Outputs that are plain integers stay integers.

        Raises:
            ValueError: An input is missing, empty, of another shape, or cannot be held by the file's input; or it holds
                stored integers of a quantized input, not real values.
            TypeError: An input holds no numbers.
            ConversionError: The interpreter fails.

        Warns:
            UserWarning: Most values are beyond the range of a quantized input, or samples hold NaN or infinity, of
                which a file that computes in integers makes numbers.
        """
        return pack(self.output_structure, self._run(x)[0])

    def _run(self, x: Samples) -> tuple[dict[str, np.ndarray], list[Any]]:
        """Real values of the outputs by name, and the targets of each batch."""
        self._check_real(x)
        found, targets, lost = list[dict[str, np.ndarray]](), list[Any](), dict[str, list[int]]()
        for arrays, target in labelled_batches(x, self._spec):
            if not found:
                self._check_range(arrays)
            for name, rows in self.lost_samples(arrays).items():
                before = sum(len(next(iter(part.values()))) for part in found)
                lost[name] = [*lost.get(name, ()), *(before + row for row in rows)]
            found.append(self._run_arrays(arrays))
            targets.append(target)
        self.warn_of(lost, stacklevel=4)
        return {info.name: joined([part[info.name] for part in found], info.name) for info in self.outputs}, targets

    def _run_arrays(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        shapes = {name: (1, *array.shape[1:]) for name, array in arrays.items()}
        if "VAR_HANDLE" in self.operators:  # variables that only a new interpreter starts anew
            rows = [
                run_all(self.new_interpreter(input_shapes=shapes), self.inputs, self.outputs, sample)
                for k in range(len(arrays[self.inputs[0].name]))
                for sample in [{name: array[k : k + 1] for name, array in arrays.items()}]
            ]
            return {info.name: joined([row[info.name] for row in rows], info.name) for info in self.outputs}
        with self._lock:
            if self._interpreter is None:
                self._interpreter = self.new_interpreter(input_shapes=shapes)
            try:
                return run_all(self._interpreter, self.inputs, self.outputs, arrays)
            except ConversionError:
                self._interpreter = None  # what a refused shape has left
                raise

    def lost_samples(self, arrays: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
        """The numbers of the samples that hold NaN or infinity, by input, where the file makes integers of floats."""
        if self.quantization in ("float32", "float16"):
            return {}
        floats = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
        fine = {name: np.isfinite(array).reshape(len(array), -1).all(axis=1) for name, array in floats.items()}
        return {name: np.flatnonzero(~rows).tolist() for name, rows in fine.items() if not rows.all()}

    def warn_of(self, lost: Mapping[str, Sequence[int]], stacklevel: int) -> None:
        """Say which samples are lost, see :meth:`lost_samples`."""
        for name, rows in lost.items():
            numbers = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
            warnings.warn(
                f"x of input '{name}' holds NaN or infinity in {len(rows)} samples ({numbers}): the "
                f"{self.quantization} file makes integers of them, so its outputs for these mean nothing. Leave them "
                "out, or fill them in as for training.",
                stacklevel=stacklevel,
            )

    def first_sample(self, x: Samples) -> dict[str, np.ndarray]:
        """The first sample of ``x``, as :meth:`predict` takes it: real values of shape ``(1, ...)`` by input name."""
        self._check_real(x)
        arrays, _ = next(iter(labelled_batches(x, self._spec)))
        return {name: array[:1] for name, array in arrays.items()}

    @functools.cached_property
    def _spec(self) -> CallSpec:
        """What :meth:`predict` takes: real values of quantized inputs."""
        if any(info.shape and info.shape[0] not in (1, None) for info in self.inputs):
            shapes = {info.name: info.shape for info in self.inputs}
            raise invalid_value("model", expected="a file with a batch of 1", received=f"shapes {shapes}")
        dtypes = ["float32" if info.scale is not None else info.dtype for info in self.inputs]
        specs = [InputSpec(info.name, info.shape[1:], dtype) for info, dtype in zip(self.inputs, dtypes)]
        return CallSpec(self.input_structure, tuple(specs))

    def _check_real(self, x: Samples) -> None:
        """Raise on arrays of the integers that a quantized input stores: they would be quantized again."""
        parts = x.values() if isinstance(x, Mapping) else x if isinstance(x, (list, tuple)) else [x]
        dtypes = {str(getattr(part, "dtype", "")) for part in parts}
        for number, info in enumerate(self.inputs):
            if info.scale is not None and info.dtype in dtypes and (info.scale, info.zero_point) != (1.0, 0):
                raise invalid_value(
                    f"x of input '{info.name}'",
                    expected="real values, which are quantized here",
                    received=f"{info.dtype}, as the file stores them",
                    fix=f"Pass lite.inputs[{number}].to_real(x) for stored values, x.astype('float32') for real ones.",
                )

    def _check_range(self, arrays: Mapping[str, np.ndarray]) -> None:
        for info in self.inputs:
            held = contents.quantized_input(self.parsed, info)
            if held.scale is not None and held.zero_point is not None:
                limits, x = np.iinfo(held.dtype), arrays[info.name]
                low, high = ((stored - held.zero_point) * held.scale for stored in (limits.min, limits.max))
                outside = float(((x < low - held.scale) | (x > high + held.scale)).mean())
                if outside > 0.5:
                    warnings.warn(
                        f"{outside:.0%} of x of input '{info.name}' is outside {low:.4g}..{high:.4g}, the range of the "
                        f"file's input, and clipped to it: the values lie in {x.min():.4g}..{x.max():.4g}. Scale them "
                        "as for calibration.",
                        stacklevel=4,
                    )

    @overload
    def evaluate(self, x: Samples, y: Arrays | None = None) -> float: ...

    @overload
    def evaluate(self, x: Samples, y: Arrays | None = None, *, metrics: Metrics) -> dict[str, float]: ...

    def evaluate(
        self, x: Samples, y: Arrays | None = None, metrics: Metrics | None = None
    ) -> float | dict[str, float]:
        """Score the file: the top-1 accuracy of a classifier, or any of Keras's metrics by name.

        Args:
            x: As for :meth:`predict`.
            y: Targets, in the structure of the outputs; labels are integers or one-hot rows. None where ``x`` is
                batches of ``(inputs, targets)``.
            metrics: Names or ``keras.metrics`` objects, as ``Model.compile`` takes them; None for top-1 accuracy.

        Raises:
            ValueError: ``x`` does not fit, there are no targets or two, the lengths of ``x`` and ``y`` differ, Keras
                cannot compute a metric, or without ``metrics`` the file has not one output of shape ``(samples,
                classes)``, a label is no class, or a score is NaN.

        Warns:
            UserWarning: A metric is NaN.

        Example:
            >>> import keras, tfgreen as tg
            >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
            >>> tg.convert(model).evaluate(np.array([[1.0], [3.0]]), np.array([[2.0], [2.0]]), metrics=["mae"])
            {'mae': 1.0}
        """
        if metrics is None:
            check_classifier(self.outputs)
        real, batches = self._run(x)
        given = [target for target in batches if target is not None]
        if (y is None) == (len(given) < len(batches)):
            what = "no targets: y is None, and x yields none" if y is None else "two sets of targets: y, and those in x"
            raise invalid_state(f"evaluate has {what}.", "Pass evaluate(x, y), or batches of (inputs, targets).")
        parts = [match(self.output_structure, target, "y") for target in (given if y is None else [y])]
        targets = {name: joined([part[name] for part in parts], "y") for name in parts[0]}
        if metrics is None:
            return top1_accuracy(*real.values(), *targets.values())
        values = keras_metrics(pack(self.output_structure, real), pack(self.output_structure, targets), metrics)
        if any(math.isnan(value) for value in values.values()):
            counts = {"predictions": count_nan(real.values()), "targets": count_nan(targets.values())}
            warnings.warn(f"A metric is NaN: there are NaN values in {counts}.", stacklevel=2)
        return values

    def save(self, path: FilePath, *, name: str | None = None) -> Path:
        """Write the file, or C source that holds it in an array on a 16-byte boundary; return the path written.

        Args:
            path: Where to write; a suffix of C or C++ asks for source, which needs C11 or C++11. In ``.c``, ``.cc`` and
                ``.cpp`` other files see ``extern const unsigned char NAME[]`` and ``extern const unsigned int
                NAME_len``; in a header (``.h``, ``.hpp``) both are static.
            name: The name of the array; None for that of the file without its suffix.

        Raises:
            ValueError: The name is no identifier of C and C++, or is given for a file that is no C source.
            FileError: The folder is missing or cannot be written.

        Example:
            >>> import keras, tfgreen as tg
            >>> lite = tg.convert(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
            >>> lite.save("digits.cc").read_text().splitlines()[6]
            'alignas(16) const unsigned char digits[] = {'
        """
        check_path(path)
        check_instance("name", name, (str, type(None)), "the name of the array, or None")
        path = Path(path)
        if path.suffix in HEADERS + SOURCES:
            comment = f"LiteRT model, {self.quantization}, {self.size_bytes} bytes"
            return write_atomic(path, c_source(self.content, path.stem if name is None else name, path.suffix, comment))
        if name is not None:
            raise invalid_state(f"name={name!r} is for C source only, and {path} is none.", "Save it as .cc or .h.")
        return write_atomic(path, self.content)


def load_litert(path: FilePath) -> LiteRTModel:
    """Read a .tflite file, written by tfgreen or by anything else.

    Raises:
        FileError: The file is missing, no LiteRT model, truncated or damaged.

    Example:
        >>> load_litert("missing.tflite")
        Traceback (most recent call last):
        ...
        tfgreen.errors.FileError: missing.tflite: cannot be read: No such file or directory.
    """
    with reading(path):
        content = Path(path).read_bytes()
    return LiteRTModel(content, source=str(path))
