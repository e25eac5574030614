"""What the tests of quantization share: models whose numbers hide nothing, and how far a file is from its model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import tfgreen as tg
from tests import zoo
from tfgreen.transforms.compressed import compressed_layers


def varied(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give biases and BatchNormalization values that matter: new layers have zeros and ones, which hide mistakes."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        name, shape = variable.name, tuple(variable.shape)
        if name in ("bias", "beta", "moving_mean"):
            variable.assign(rng.normal(size=shape) * 0.3)
        elif name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, shape))
    return model


def quantized(model: keras.Model, x: Any, **settings: Any) -> keras.Model:
    return tg.quantize(model, calibration_data=x, **settings)


def in_int8(model: keras.Model, x: Any = None) -> tg.LiteRTModel:
    return tg.convert(model, tg.ConvertConfig(quantization="int8", calibration_data=x))


def error_in_scales(model: keras.Model, lite: tg.LiteRTModel, x: Any) -> float:
    """The mean difference between a model and its file, in scales of the output; of the worst output."""
    found = []
    ours, theirs = (keras.tree.flatten(one) for one in (model.predict(x, verbose=0), lite.predict(x)))
    scales = lite.output_scales
    for a, b, name in zip(ours, theirs, [tensor.name for tensor in lite.outputs], strict=True):
        scale = scales[name] or (a.max() - a.min()) / 255
        found.append(float(np.abs(a - b).mean() / scale))
    return max(found)


def normal(*shape: int, count: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")


def fitted(model: keras.Model, name: str, epochs: int = 1, **options) -> keras.Model:
    model.compile(keras.optimizers.Adam(1e-2), zoo.loss(name), **options)
    data = zoo.sample(name, 32), zoo.targets(name, 32)
    model.fit(*data, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=[tg.UpdateCompression()])
    return model


def ranges_of(model: keras.Model) -> dict[str, tuple[float, float]]:
    return {
        f"{path}/{range_.name}": tuple(float(end) for end in range_.ends())
        for path, layer in compressed_layers(model)
        if layer.activations is not None
        for range_ in layer.activations.ranges()
    }
