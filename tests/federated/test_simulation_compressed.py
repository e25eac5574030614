"""Clients that quantize and prune while they train together: the ranges come together, and the file is int8."""

from __future__ import annotations

import importlib

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.federated.test_distilled_model import labelled
from tfgreen.federated.flower import flower_app


def data_fn(client: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = labelled(client)
    return x * (1 + client), y  # the ranges of clients differ


def quantized_fn() -> keras.Model:
    layers = keras.layers
    parts = [layers.Dense(16, "relu"), layers.BatchNormalization(), layers.Dense(4)]
    model = keras.Sequential([keras.Input((6,)), *parts])
    model = tg.quantize(tg.prune(model, schedule=tg.ConstantSparsity(0.5, 0, 0)), calibration_data=data_fn(0)[0])
    tg.UpdateCompression(model).step()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def simulate(**options: object) -> tg.federated.FederatedRun:
    arguments = {"clients": 2, "rounds": 4, "epochs": 3, "batch_size": 8, "statistics": "shared", **options}
    callbacks = {"callbacks_fn": lambda: [tg.UpdateCompression()]}
    return tg.federated.simulate(quantized_fn, data_fn, evaluation_data=data_fn(1), **callbacks, **arguments)


def ranges(model: keras.Model) -> dict[str, float]:
    found = [v for v in model.variables if v.path.endswith(("/lower", "/upper"))]
    return {f"{number} {v.name}": float(v) for number, v in enumerate(found)}


@pytest.mark.slow
def test_ranges_are_averaged_by_samples_exactly():
    """Scalars travel as they are: rounding them to a scale would move the whole grid."""
    start = ranges(simulate(rounds=1, transmit=lambda *_: None).model)
    alone = [
        ranges(simulate(rounds=1, transmit=lambda _, client, update: update if client == only else None).model)
        for only in range(2)
    ]
    together = ranges(simulate(rounds=1).model)
    assert any(alone[0][name] != start[name] for name in start) and alone[1] != alone[0]
    for name, value in together.items():
        assert value == pytest.approx(np.mean([each[name] for each in alone]), rel=1e-6, abs=1e-7)


def test_the_result_converts_to_int8_with_zeros():
    run = simulate()
    assert run.history["accuracy"][-1] > 0.8
    model = tg.strip(run.model)
    x, y = data_fn(1)
    lite = tg.convert(run.model, quantization="int8", calibration_data=data_fn(0)[0])
    assert np.mean(lite.predict(x).argmax(-1) == y) > run.history["accuracy"][-1] - 0.05
    assert np.mean(np.asarray(model.layers[0].kernel) == 0) == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
def test_no_strategy_carries_ranges_beyond_those_of_the_clients():
    try:
        flower_app()
    except tg.InvalidValueError:
        pytest.skip("Flower is not installed")
    adam = importlib.import_module("flwr.serverapp.strategy").FedAdam(fraction_evaluate=0.0, eta=0.5)
    model = simulate(strategy=adam).model
    found = ranges(model)
    assert all(np.isfinite(value) and abs(value) < 100 for value in found.values())
    for number, (name, value) in enumerate(found.items()):
        if name.endswith("upper"):
            assert value > list(found.values())[number - 1]
    variance = [v for v in model.variables if v.path.endswith("moving_variance")][0]
    assert np.min(variance) >= 0
