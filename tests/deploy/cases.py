"""Zoo models and their artifacts, each made once for all deploy tests."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np

from tests.zoo import ZOO, sample
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.deploy.litert_model import LiteRTModel

SEED_OF_TEST_DATA = 7  # calibration uses seed 0: a file is judged on samples it has not seen


@functools.cache
def model(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    return ZOO[name]()


@functools.cache
def artifact(name: str, mode: str) -> LiteRTModel:
    """``mode`` is a quantization, or ``"int8-io"`` for int8 inputs and outputs too."""
    if not mode.startswith("int8"):
        return convert(model(name), ConvertConfig(quantization=mode))
    edges = {}
    if mode == "int8-io":
        # Token ids stay integers; only float inputs can be quantized.
        edges = {"input_dtype": "float32" if name == "attention" else "int8", "output_dtype": "int8"}
    config = ConvertConfig(quantization="int8", calibration_data=sample(name, 64), **edges)
    return convert(model(name), config)


def unseen(name: str, count: int = 48) -> Any:
    return sample(name, count, seed=SEED_OF_TEST_DATA)


@functools.cache
def keras_outputs(name: str) -> Any:
    """What the Keras model returns for :func:`unseen`."""
    return keras.tree.map_structure(np.asarray, model(name)(unseen(name), training=False))
