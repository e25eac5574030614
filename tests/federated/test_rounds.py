"""Rounds: what arrived is used or refused, and counted either way."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.federated.local_model import LocalModel
from tfgreen.federated.rounds import Arrival, Rounds


@pytest.fixture
def rounds():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="zeros")])
    model.compile("sgd", "mse")
    config = tg.federated.FederatedConfig(clients=3, rounds=1, downlink=None)
    return Rounds(LocalModel(model, config), config, (np.ones((4, 3)), np.zeros((4, 2))), None)


def update(rounds: Rounds, value: float) -> bytes:
    before = rounds.broadcast.weights
    after = {name: np.full_like(weight, value) for name, weight in before.items()}
    return tg.UpdateCodec().encode(before, after)[0]


def test_updates_are_averaged_by_samples_and_the_rest_is_named(rounds):
    arrivals = [
        Arrival(0, 30, 100, update(rounds, 1.0), 2.0),
        Arrival(1, 10, 100, update(rounds, 2.0), 2.0),
        Arrival(2, 0, 100, b"garbage", 2.0),
        Arrival(3, 0, 100, None),
        Arrival(4, 0, 0, None, refused="it said no"),
    ]
    found = rounds.finish(1, arrivals, [])
    for weight in rounds.broadcast.own:
        np.testing.assert_allclose(weight, 1.25, atol=1e-6)
    reasons = [client.refused for client in found.clients]
    assert reasons[:2] == ["", ""] and "something else" in reasons[2]
    assert reasons[3:] == ["nothing arrived", "it said no"]
    assert [client.bytes_up for client in found.clients][2:] == [7, 0, 0] and found.server_joules > 0
    assert found.metrics["loss"] == pytest.approx(25.0, rel=1e-4)


def test_a_round_without_updates_changes_nothing(rounds):
    before = [weight.copy() for weight in rounds.broadcast.own]
    found = rounds.finish(1, [Arrival(0, 0, 0, None)], [])
    assert all(map(np.array_equal, before, rounds.broadcast.own)) and rounds.broadcast.version == 0
    assert found.metrics["loss"] == 0.0 and found.co2e_kg is None
