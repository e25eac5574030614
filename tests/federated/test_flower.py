"""Flower's strategies draw and aggregate; what they would have clients do that these do not is refused."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

import tfgreen as tg
from tests.federated.test_simulation import simulate, weights
from tfgreen.federated.flower import FlowerStrategy, flower_app


@pytest.fixture
def strategies():
    try:
        flower_app()
    except tg.InvalidValueError:
        pytest.skip("Flower is not installed")
    return importlib.import_module("flwr.serverapp.strategy")


def options(**settings: object) -> dict[str, object]:
    return {"fraction_evaluate": 0.0, "min_train_nodes": 2, **settings}


def test_without_flower_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flwr.app", None)

    class Strategy:
        def configure_train(self) -> None:
            """As Flower's."""

    with pytest.raises(ValueError, match=r"Flower cannot be imported.*pip install 'tfgreen\[federated\]'"):
        FlowerStrategy(Strategy(), 3, 0)


def test_fedavg_of_flower_is_the_average(strategies):
    theirs = simulate(strategy=strategies.FedAvg(**options()), rounds=2)
    np.testing.assert_allclose(weights(theirs), weights(simulate(rounds=2)), atol=1e-6)


@pytest.mark.parametrize("name", ["FedAdam", "FedAvgM", "FedMedian", "FedTrimmedAvg", "Krum", "FedYogi"])
def test_strategies_train_and_keep_dtypes_and_seeds(strategies, name):
    runs = [simulate(strategy=getattr(strategies, name)(**options(fraction_train=0.75)), rounds=3) for _ in range(2)]
    np.testing.assert_array_equal(weights(runs[0]), weights(runs[1]))
    assert weights(runs[0]).dtype == np.float32
    assert runs[0].history["updates"] == [3, 3, 3]


def test_fedprox_holds_clients_to_the_shared_weights(strategies):
    start = weights(simulate(transmit=lambda *_: None, rounds=1))
    runs = [simulate(strategy=strategies.FedProx(**options(proximal_mu=mu)), rounds=1) for mu in (0.0, 10.0)]
    moved = [np.linalg.norm(weights(run) - start) for run in runs]
    assert moved[1] < 0.5 * moved[0]
    np.testing.assert_allclose(weights(runs[0]), weights(simulate(rounds=1)), atol=1e-6)
    assert all(variable.regularizer is None for variable in runs[1].model.trainable_variables)


def test_a_differentially_private_wrapper_runs(strategies):
    inner = strategies.FedAvg(**options())
    wrapped = strategies.DifferentialPrivacyServerSideFixedClipping(inner, 0.1, 0.5, 4)
    assert simulate(strategy=wrapped, rounds=2).history["updates"] == [4, 4]


def test_a_strategy_knows_the_losses_of_the_clients(strategies):
    run = simulate(strategy=strategies.QFedAvg(client_learning_rate=0.05, **options()), rounds=3)
    assert run.history["updates"] == [4, 4, 4] and run.history["loss"][-1] < run.history["loss"][0]
    with pytest.raises(ValueError, match="FedMedian cannot aggregate 4 updates: no median"):
        simulate(strategy=no_median(strategies)(**options()), rounds=1)


def no_median(strategies):
    class FedMedian(strategies.FedMedian):
        def aggregate_train(self, *_):
            raise RuntimeError("no median")

    return FedMedian


def test_what_clients_do_not_do_and_too_few_clients_are_refused(strategies):
    clips = strategies.DifferentialPrivacyClientSideFixedClipping(strategies.FedAvg(**options()), 0.1, 0.5, 4)
    with pytest.raises(ValueError, match="Clipping wants its clients to use clipping_norm.*mods="):
        simulate(strategy=clips, rounds=1)
    with pytest.raises(ValueError, match="clients: expected at least the 9 that the strategy wants, received 4. Lower"):
        simulate(strategy=strategies.FedAvg(**options(min_available_nodes=9)), rounds=1)


def test_telemetry_is_off(strategies):
    assert importlib.import_module("flwr.supercore.telemetry").FLWR_TELEMETRY_ENABLED == "0"
