"""How each layer of ``keras.layers`` is tried by ``layer_table.py``: in which model, on which values."""

from __future__ import annotations

import dataclasses
import functools
import re
import tempfile
from typing import Any

import keras
import numpy as np

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
    return keras.layers.MaxNumBoundingBoxes(3, bounding_box_format="xyxy")(
        {"images": parts[0], "bounding_boxes": {"boxes": parts[1], "labels": parts[2]}}
    )


@functools.cache
def saved_dense() -> tempfile.TemporaryDirectory[str]:
    """The folder of a SavedModel, for TFSMLayer; removed when the process ends."""
    folder = tempfile.TemporaryDirectory()
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).export(folder.name, verbose=False)
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
        "SpectralNormalization(Dense(3))", "TFSMLayer(saved_dense().name, call_endpoint='serve')",
        "TorchModuleWrapper(None)", "FlaxLayer(None)", "JaxLayer(lambda inputs: inputs * 2, lambda *_: None)",
        Layer="Plain()",
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
}
# What the classes take that exist for several ranks, by their names without it.
RANKED = {
    "AdaptiveAveragePooling": "2", "AdaptiveMaxPooling": "2", "AveragePooling": "2", "MaxPooling": "2", "Conv": "4, 3",
    "ConvTranspose": "4, 3", "DepthwiseConv": "3", "SeparableConv": "4, 3", "SpatialDropout": "0.5",
}


def case_of(name: str) -> Case:
    if name in CASES:
        return CASES[name]
    rank = re.search("[123]D", name)
    if rank:
        return Case(f"{name}({RANKED.get(name.replace(rank[0], ''), '')})", BY_RANK[rank[0]])
    return Case(f"{name}()", IMAGE, "image") if name.startswith("Random") else Case(f"{name}()")
