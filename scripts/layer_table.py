"""What becomes of every layer of ``keras.layers`` in a .tflite file: writes ``layer_table.md`` beside this script.

    python scripts/layer_table.py
    python scripts/layer_table.py Dense LSTM     # makes these rows anew and keeps the others

Each layer, alone in a model with random weights, is converted as float32, int8, int16x8 and int4, and the file is
compared with Keras on the samples that calibrated it (``tg.verify``; its top-1 agreement means nothing for random
values). int4 is compared with the model that ``tg.quantize`` rounded to 4-bit weights.

A cell says "works", "float: " and the operators that an integer file computes in float32, "refused: " and the start of
the error, "as int8" for int4 without a kernel, or "works, but off by" the mean error in steps of 1/255 of the output's
range where ``tg.verify`` fails. "crash" is a raw error or a process that died; there should be none.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402

import tfgreen as tg  # noqa: E402
from tfgreen.errors import TfgreenError  # noqa: E402
from tfgreen.model.support import quantizable_weights  # noqa: E402

TABLE = Path(__file__).with_suffix(".md")
MODES = ("float32", "int8", "int16x8", "int4")
SECONDS = 120  # for one cell, before its process is killed
Shapes = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Case:
    """How a layer is tried: an expression for it (or for a function that calls it), which the table can show, and its
    inputs: shapes without the batch, and values that are "normal", "image" (0 to 255), "ids" (0 to 9) or "words"."""

    code: str
    shapes: Shapes = ((4,),)
    values: str = "normal"

    def model(self) -> keras.Model:
        """The layer in a model. Its weights are moved off 0 and 1, where a wrong bias or scale would not show."""
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        dtype = {"ids": "int32", "words": "string"}.get(self.values, "float32")
        inputs = _alone([keras.Input(shape, dtype=dtype) for shape in self.shapes])
        layer = eval(self.code, {**vars(keras.layers), **globals()})
        model = keras.Model(inputs, layer(inputs))
        rng = np.random.default_rng(0)
        for weight in model.trainable_weights:
            weight.assign(weight + rng.uniform(0, 0.2, weight.shape))
        return model

    def data(self, samples: int) -> Any:
        rng = np.random.default_rng(1)
        draw = {
            "normal": lambda shape: rng.normal(size=shape).astype("float32"),
            "image": lambda shape: rng.uniform(0, 255, shape).astype("float32"),
            "ids": lambda shape: rng.integers(0, 10, shape).astype("int32"),
            "words": lambda shape: rng.choice(["a", "b", "c"], shape),
        }[self.values]
        return _alone([draw((samples, *shape)) for shape in self.shapes])


def _alone(items: list[Any]) -> Any:
    return items if len(items) > 1 else items[0]


class Plain(keras.Layer):
    """The smallest layer of a user's own."""

    def call(self, x: Any) -> Any:
        return x * 2 + 1


class Wrapped(keras.layers.Wrapper):
    """The smallest wrapper of a user's own."""

    def call(self, x: Any) -> Any:
        return self.layer(x)


def boxes(parts: list[Any]) -> Any:
    return keras.layers.MaxNumBoundingBoxes(3)(
        {"images": parts[0], "bounding_boxes": {"boxes": parts[1], "labels": parts[2]}}
    )


def saved_dense() -> str:
    """A SavedModel, for TFSMLayer."""
    folder = tempfile.mkdtemp(prefix="layer_table-")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).export(folder, verbose=False)
    return folder


def cases(shapes: Shapes, *codes: str, values: str = "normal", **others: str) -> dict[str, Case]:
    """Cases of equal inputs by class name: that before the parenthesis, or the keyword."""
    named = {code.partition("(")[0]: code for code in codes} | others
    return {name: Case(code, shapes, values) for name, code in named.items()}


PAIR, STEPS, IMAGE, SEQUENCES = ((4,), (4,)), ((6, 4),), ((8, 8, 3),), ((6, 4), (6, 4))
BY_RANK = {"1D": ((8, 3),), "2D": IMAGE, "3D": ((6, 6, 6, 2),)}
# A class that is not here is made without arguments, and takes images, what its name says (1D, 2D, 3D), or a vector.
CASES = {
    **cases(
        ((4,),), "Activation('gelu')", "AlphaDropout(0.5)", "Dense(3)", "Discretization([-1.0, 0.0, 1.0])",
        "Dropout(0.5)", "GaussianDropout(0.5)", "GaussianNoise(0.5)", "Lambda(lambda x: x * 2)",
        "Normalization(mean=0.5, variance=2.0)", "RepeatVector(3)", "Reshape((2, 2))",
        "SpectralNormalization(Dense(3))", "TFSMLayer(saved_dense(), call_endpoint='serve')",
        "TorchModuleWrapper(None)", "FlaxLayer(None)", "JaxLayer(lambda inputs: inputs * 2, lambda *_: None)", Layer="Plain()",
        Wrapper="Wrapped(Dense(3))", InputLayer="keras.Sequential([InputLayer((4,)), Dense(3)])",
    ),
    **cases(PAIR, "Add()", "Average()", "Concatenate()", "Dot(1)", "Maximum()", "Minimum()", "Multiply()"),
    **cases(PAIR, "Subtract()"),
    **cases(
        STEPS, "Bidirectional(LSTM(3))", "GRU(3)", "LSTM(3)", "Masking()", "Permute((2, 1))", "RNN(SimpleRNNCell(3))",
        "SimpleRNN(3)", "TimeDistributed(Dense(3))", "EinsumDense('abc,cd->abd', (None, 3), bias_axes='d')",
        GRUCell="RNN(GRUCell(3))", LSTMCell="RNN(LSTMCell(3))", SimpleRNNCell="RNN(SimpleRNNCell(3))",
        StackedRNNCells="RNN(StackedRNNCells([LSTMCell(3), GRUCell(3)]))",
    ),
    **cases(
        SEQUENCES, "AdditiveAttention()", "Attention()",
        MultiHeadAttention="lambda pair: MultiHeadAttention(2, 4)(*pair)",
        GroupQueryAttention="lambda pair: GroupQueryAttention(4, 4, 2)(*pair)",
    ),
    **cases(((3, 6, 2),), "ConvLSTM1D(2, 3)"),
    **cases(((3, 6, 6, 2),), "ConvLSTM2D(2, 3)"),
    **cases(((3, 4, 4, 4, 2),), "ConvLSTM3D(2, 3)"),
    **cases(IMAGE, "BatchNormalization()", "Flatten()", "SpatialDropout2D(0.5)"),
    **cases(((8, 8, 4),), "GroupNormalization(2)"),
    **cases(((256,),), "MelSpectrogram(64, num_mel_bins=8)"),
    **cases(((256, 1),), "STFTSpectrogram(frame_length=64, frame_step=32, fft_length=64)"),
    **cases(((8, 8, 3), (5, 4), (5,)), MaxNumBoundingBoxes="boxes"),
    **cases(
        IMAGE, "AugMix()", "AutoContrast()", "CenterCrop(4, 4)", "ContrastLimitedAdaptiveHistogramEqualization()",
        "CutMix()", "MixUp()", "Pipeline([Resizing(4, 4), Rescaling(1 / 255)])", "RandAugment()",
        "RandomBrightness(0.2)", "RandomColorDegeneration(0.2)", "RandomContrast(0.2)", "RandomCrop(4, 4)",
        "RandomHue(0.2)", "RandomPosterization(4)", "RandomRotation(0.2)", "RandomSaturation(0.2)",
        "RandomSharpness(0.2)", "RandomTranslation(0.2, 0.2)", "RandomZoom(0.2)", "Rescaling(1 / 255)",
        "Resizing(4, 4)", "Solarization()", values="image",
        Equalization="Pipeline([Equalization()])",  # alone, Keras 3.15 refuses it in a functional model
    ),
    **cases(
        ((4,),), "CategoryEncoding(10)", "Embedding(10, 4)", "Hashing(5)", "IntegerLookup(vocabulary=[1, 2, 3])",
        "ReversibleEmbedding(10, 4)", values="ids",
    ),
    **cases(((1,), (1,)), "HashedCrossing(5)", values="ids"),
    **cases(((4,),), "StringLookup(vocabulary=['a', 'b'])", values="words"),
    **cases(((1,),), "TextVectorization(vocabulary=['a', 'b'])", values="words"),
}  # fmt: skip
# What the classes take that exist for several ranks, by their names without it.
RANKED = {
    "AdaptiveAveragePooling": "2", "AdaptiveMaxPooling": "2", "AveragePooling": "2", "MaxPooling": "2", "Conv": "4, 3",
    "ConvTranspose": "4, 3", "DepthwiseConv": "3", "SeparableConv": "4, 3", "SpatialDropout": "0.5",
}  # fmt: skip


def layer_classes() -> dict[str, list[str]]:
    """Every public layer class by its name in ``keras.layers``, with its other names there."""
    names: dict[type, list[str]] = {}
    for name, value in sorted(vars(keras.layers).items()):
        if isinstance(value, type) and issubclass(value, keras.layers.Layer):
            names.setdefault(value, []).append(name)
    own = {c: c.__name__ if c.__name__ in found else found[0] for c, found in names.items()}
    return {own[c]: [name for name in names[c] if name != own[c]] for c in sorted(names, key=lambda c: own[c])}


def case_of(name: str) -> Case:
    if name in CASES:
        return CASES[name]
    rank = re.search("[123]D", name)
    if rank:
        return Case(f"{name}({RANKED.get(name.replace(rank[0], ''), '')})", BY_RANK[rank[0]])
    return Case(f"{name}()", IMAGE, "image") if name.startswith("Random") else Case(f"{name}()")


def cell(name: str, mode: str) -> str:
    """What becomes of one layer in one mode."""
    case = case_of(name)
    try:
        model = case.model()
    except (ImportError, ValueError, TypeError) as error:
        return f"refused by Keras: {sentence(error)}"
    x = case.data(64)
    try:
        if mode == "int4":
            if not any(axes for layer in model.layers for axes in quantizable_weights(layer).values()):
                return "as int8"  # there is no kernel to be stored in 4 bits
            model = tg.quantize(model, tg.QuantizeConfig(calibration_data=x, weight_bits=4))
        data = None if mode == "float32" else x
        lite = tg.convert(model, tg.ConvertConfig(quantization=mode, calibration_data=data))
        # The weights have 8 bits in int16x8 too, so that steps of 16 bits are no measure.
        fine = 256 if mode == "int16x8" and None not in lite.output_steps.values() else 1
        result = tg.verify(model, lite, x, agreement=0.0, mean_steps=None if fine == 1 else 2.5 * fine)
    except TfgreenError as error:
        return f"refused: {sentence(error)}"
    except Exception as error:
        return f"crash: {type(error).__name__}: {sentence(error)}"
    found = "works" if mode == "float32" or not lite.float_operators else f"float: {', '.join(lite.float_operators)}"
    if not result.passed:
        found += f", but off by {max(o.mean_steps for o in result.outputs) / fine:.1f} steps"
    return found


def sentence(error: Exception) -> str:
    """The first sentence of an error, without the name of the model, which is that of this script."""
    text = re.sub(r"^model '\w+'( cannot be converted with quantization='\w+')?: ", "", str(error))
    return re.split(r"\.\s|\n", text)[0].replace("|", "/").removesuffix(".")[:200]


def worker(results: str) -> None:
    """Work off the cells given at the standard input as JSON; append a line of JSON for each to a file."""
    for name, mode in json.load(sys.stdin):
        signal.alarm(SECONDS)
        found = cell(name, mode)
        signal.alarm(0)
        with Path(results).open("a") as file:
            file.write(json.dumps([name, mode, found]) + "\n")


def run(cells: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Fill cells in a process of their own; where it dies, the cell it was at is a crash, and another one goes on."""
    found: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        results.touch()
        while pending := [c for c in cells if c not in found]:
            command = [sys.executable, __file__, "--worker", str(results)]
            child = subprocess.run(command, input=json.dumps(pending), text=True, capture_output=True, check=False)
            found |= {(name, mode): text for name, mode, text in map(json.loads, results.read_text().splitlines())}
            dead = [c for c in cells if c not in found][:1]
            found |= {c: f"crash: the process ended with {child.returncode}" for c in dead}
    return found


def table(found: dict[tuple[str, str], str]) -> str:
    lines = [f"| Layer | Tried as | {' | '.join(MODES)} |", "|---" * (2 + len(MODES)) + "|"]
    for name, aliases in layer_classes().items():
        if (name, MODES[0]) in found:
            case = case_of(name)
            other = f" ({', '.join(aliases)})" if aliases else ""
            values = "" if case.values == "normal" else f"{case.values} "
            tried = f"`{case.code}` on {values}{', '.join(map(str, case.shapes))}"
            lines.append(f"| {name}{other} | {tried} | {' | '.join(found[name, mode] for mode in MODES)} |")
    return "\n".join(lines)


def summary(found: dict[tuple[str, str], str]) -> str:
    kinds = ("works", "float", "refused", "as int8", "off", "crash")
    counts = Counter((mode, "off" if "but off" in text else next(k for k in kinds if text.startswith(k)))
                     for (_, mode), text in found.items())
    lines = ["| Mode | " + " | ".join(kinds) + " |", "|---" * (1 + len(kinds)) + "|"]
    lines += [f"| {mode} | " + " | ".join(str(counts[mode, kind]) for kind in kinds) + " |" for mode in MODES]
    return "\n".join(lines)


def read(text: str) -> dict[tuple[str, str], str]:
    """The cells of a table that was written before."""
    rows = [line.removesuffix(" |").split(" | ") for line in text.splitlines() if line.count(" | ") == 1 + len(MODES)]
    return {(row[0].split()[1], mode): text for row in rows for mode, text in zip(MODES, row[2:])}


def main(names: list[str]) -> None:
    found = read(TABLE.read_text()) if names else {}
    found |= run([(name, mode) for name in names or layer_classes() for mode in MODES])
    TABLE.write_text(f"{summary(found)}\n\n{table(found)}\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
    else:
        main(sys.argv[1:])
