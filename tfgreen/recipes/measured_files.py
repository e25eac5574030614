"""What channel pruning and factorization measure: the file of a model, and its latency on this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import keras
import numpy as np

from tfgreen.deploy.conversion.config import ConvertConfig, Quantization
from tfgreen.deploy.convert import run_conversion
from tfgreen.deploy.inspection.benchmark import ready_interpreter, time_in_turn
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.errors import invalid_state
from tfgreen.model.call_spec import read_call_spec
from tfgreen.structure import pack

Key = TypeVar("Key")

_RUNS, _WARMUP = 60, 10


def to_lite(model: keras.Model, quantization: Quantization, samples: dict[str, np.ndarray] | None) -> LiteRTModel:
    """The file of a model, calibrated where its mode is."""
    config = ConvertConfig(quantization=quantization)
    if config.integers and samples is not None:
        config = dataclasses.replace(config, calibration_data=pack(read_call_spec(model).structure, samples))
    return run_conversion(model, config)


def latencies_ms(
    lites: Mapping[Key, LiteRTModel], threads: int, samples: Mapping[str, np.ndarray] | None = None, runs: int = _RUNS
) -> dict[Key, float]:
    """The median time of one inference of each file, which run in turn, on random inputs, or the first of the samples
    where inputs are of open size, which decides about the time."""
    inputs = {}
    for key, lite in lites.items():
        is_open = [info.name for info in lite.inputs if None in info.shape[1:]]
        if is_open and samples is None:
            sentence = f"The latency depends on the size of input '{is_open[0]}', which is open."
            raise invalid_state(sentence, "Pass calibration_data of the size that matters.")
        if is_open and samples is not None:
            inputs[key] = lite.first_sample({name: array[:1] for name, array in samples.items()})
    interpreters = {key: ready_interpreter(lite, threads, sample=inputs.get(key)) for key, lite in lites.items()}
    times = time_in_turn(interpreters, runs, _WARMUP)
    return {key: float(np.median(found)) / 1e6 for key, found in times.items()}
