"""DistilledModel: clients share predictions on public samples, and learn from each other's."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(4, 6)) * 2
PUBLIC = (CENTERS[RNG.integers(0, 4, 200)] + RNG.normal(size=(200, 6))).astype("float32")


def labelled(seed: int, classes: tuple[int, ...] = (0, 1, 2, 3), count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, count)
    return (CENTERS[y] + rng.normal(size=(count, 6))).astype("float32"), y


def data_fn(client: int) -> tuple[np.ndarray, np.ndarray]:
    return labelled(client, ((0, 1), (2, 3), (1, 2))[client])


def model_fn(softmax: bool = True) -> keras.Model:
    last = keras.layers.Dense(4, "softmax" if softmax else None)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(16, "relu"), last])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not softmax)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def simulate(**options: object) -> tg.federated.FederatedRun:
    arguments = {"clients": 3, "rounds": 4, "epochs": 3, "batch_size": 8, "public_data": PUBLIC, **options}
    arguments.setdefault("evaluation_data", labelled(9))
    return tg.federated.simulate(arguments.pop("model_fn", model_fn), arguments.pop("data_fn", data_fn), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [True, False])
def test_a_model_learns_classes_that_no_client_has_all_of(softmax):
    """From what clients predict, which is all that is sent; a client alone knows two of the four."""
    run = simulate(model_fn=lambda: model_fn(softmax))
    assert run.history["accuracy"][-1] > 0.65
    floats = 4 * PUBLIC.shape[0] * 4
    assert all(0 < client.bytes_up < floats / 3 for each in run.rounds for client in each.clients)
    own = [run.client_model(client).get_weights()[0] for client in (0, 1)]
    assert not np.allclose(*own) and tg.convert(run.model).size_bytes > 0


@pytest.mark.slow
def test_equal_seeds_give_equal_models_and_evaluation_changes_none():
    runs = [simulate(rounds=2, evaluation_data=data) for data in (labelled(9), labelled(9), None)]
    for weights in zip(*(run.model.get_weights() for run in runs)):
        np.testing.assert_array_equal(weights[0], weights[1])
        np.testing.assert_array_equal(weights[0], weights[2])


@pytest.mark.parametrize("public", [np.ones((0, 6)), 3, [np.ones((2, 6)), np.ones((3, 6))]], ids=["none", "no", "two"])
def test_public_data_are_samples(public):
    with pytest.raises((ValueError, TypeError), match="public_data: expected"):
        simulate(public_data=public)


def test_public_data_come_without_targets():
    with pytest.raises(ValueError, match="public_data: expected one array .*a tuple of 2 arrays. Pass the inputs"):
        simulate(public_data=(PUBLIC, np.zeros(len(PUBLIC))))
