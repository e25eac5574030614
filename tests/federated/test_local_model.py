"""LocalModel: one model serves all clients, and each finds what it kept."""

from __future__ import annotations

import keras
import numpy as np

from tfgreen.federated.config import FederatedConfig
from tfgreen.federated.local_model import ClientState, LocalModel, sample_count, statistics_of


def local_model(**options: object) -> LocalModel:
    layers = keras.layers
    parts = [layers.Dense(4), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)]
    model = keras.Sequential([keras.Input((3,)), *parts])
    model.compile("adam", "mse")
    return LocalModel(model, FederatedConfig(clients=2, rounds=1, batch_size=4, **options))


def data(seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(10, 3)), rng.normal(size=(10, 2)), np.ones(10)


def test_a_training_depends_on_nothing_that_another_client_left():
    local = local_model()
    start = local.shared()
    first, again = ClientState(), ClientState()
    trained, loss = local.train(start, first, data(0), (0, 1, 0), [])
    local.train(start, ClientState(), data(1), (0, 1, 1), [])
    repeated, loss_again = local.train(start, again, data(0), (0, 1, 0), [])
    assert loss == loss_again > 0
    for a, b in zip([*trained, *first.optimizer, *first.statistics], [*repeated, *again.optimizer, *again.statistics]):
        np.testing.assert_array_equal(a, b)
    assert int(first.optimizer[0]) == 3 and sample_count(data(0)) == 10  # three batches, of 4, 4 and 2


def test_statistics_are_shared_only_if_asked_for():
    kept, shared = local_model(), local_model(statistics="shared")
    assert len(statistics_of(kept.model)) == 2 and kept.keeps_statistics and not shared.keeps_statistics
    assert len(shared.shared()) == len(kept.shared()) + 2 == len(shared.names)


def test_a_reset_leaves_no_trace_of_a_client():
    local = local_model()
    start, whole = local.shared(), local.model.get_weights()
    local.train(start, ClientState(), data(0), (0, 1, 0), [])
    local.reset(start)
    for a, b in zip(local.model.get_weights(), whole):
        np.testing.assert_array_equal(a, b)
    assert int(local.model.optimizer.iterations) == 0
