"""ServerApp and ClientApp: the same weights and the same account as the simulation; what goes wrong is named."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import tfgreen as tg
from tests.federated.local_grid import run_apps
from tests.federated.test_simulation import data_fn, model_fn, normalized_fn, simulate, weights
from tfgreen.federated.flower import flower_app

try:
    flwr = flower_app()
except tg.InvalidValueError:
    pytest.skip("Flower is not installed", allow_module_level=True)
strategies = importlib.import_module("flwr.serverapp.strategy")
mods = importlib.import_module("flwr.clientapp.mod")


def federate(between=None, strategy=None, model=model_fn, data=data_fn, client_options=None, **options):
    arguments = {"clients": 3, "rounds": 3, "batch_size": 8, **options}
    config = tg.federated.FederatedConfig(**arguments)
    client_app = tg.federated.client(model, data, config, **(client_options or {}))

    def server_app(finished):
        return tg.federated.server(
            model, config, strategy=strategy, finished=finished, evaluation_data=data_fn(99), timeout=5
        )

    return run_apps(client_app, server_app, config.clients, between)


@pytest.mark.parametrize(
    "options",
    [{"codec": tg.UpdateCodec(top_k=0.25, bits=4)}, {"codec": None, "downlink": None}, {"model": normalized_fn}],
    ids=["top_k", "plain", "statistics"],
)
def test_weights_and_bytes_are_those_of_the_simulation(options):
    run, grid = federate(**options)
    simulated = dict(options)
    model = simulated.pop("model", model_fn)
    expected = simulate(model_fn=model, clients=3, rounds=3, **simulated)
    np.testing.assert_array_equal(weights(run), weights(expected))
    for name in ("bytes_up", "bytes_down", "updates"):
        assert run.history[name] == expected.history[name]
    assert run.bytes_down == sum(count for _, _, count in grid.sent)
    assert [[c.client for c in each.clients] for each in run.rounds] == [[0, 1, 2]] * 3
    assert run.joules > 0 and all(c.joules > 0 for each in run.rounds for c in each.clients)
    if model is model_fn:
        assert run.history["loss"] == expected.history["loss"]
    with pytest.raises(ValueError, match="statistics of BatchNormalization.* is at the clients"):
        run.client_model(0)


@pytest.mark.parametrize("name", ["FedAvg", "FedAdam", "FedMedian", "Krum", "FedProx"])
def test_strategies_give_what_they_give_in_the_simulation(name):
    settings = {"fraction_evaluate": 0.0, **({"proximal_mu": 5.0} if name == "FedProx" else {})}
    run, grid = federate(strategy=getattr(strategies, name)(**settings))
    expected = simulate(strategy=getattr(strategies, name)(**settings), clients=3, rounds=3)
    np.testing.assert_array_equal(weights(run), weights(expected))
    assert weights(run).dtype == np.float32 and run.bytes_down == expected.bytes_down


def test_clipping_at_the_clients_is_done_by_flowers_mods():
    strategy = strategies.FedAvg(fraction_evaluate=0.0)
    wrapped = strategies.DifferentialPrivacyClientSideFixedClipping(strategy, 0.0, 0.01, 3)
    run, _ = federate(
        strategy=wrapped, rounds=1, codec=None, downlink=None, client_options={"mods": [mods.fixedclipping_mod]}
    )
    plain = simulate(clients=3, rounds=1, codec=None, downlink=None)
    start = simulate(clients=3, rounds=1, transmit=lambda *_: None)
    moved = [np.linalg.norm(weights(each) - weights(start)) for each in (run, plain)]
    assert moved[0] <= 0.0101 < 0.1 < moved[1] and run.history["updates"] == [3]
    strategy = strategies.FedAvg(fraction_evaluate=0.0)
    adaptive = strategies.DifferentialPrivacyClientSideAdaptiveClipping(strategy, 0.1, 3)
    run, _ = federate(strategy=adaptive, rounds=2, client_options={"mods": [mods.adaptiveclipping_mod]})
    assert run.history["updates"] == [3, 3]


def garbage(kind: str, reply):
    """What a client may answer instead of an update."""
    arrays, link = dict(reply.content["arrays"]), dict(reply.content["tfgreen"])
    data = arrays["0"].data
    update = {
        "garbage": b"\x80\x04\x95" + bytes(200), "cut": data[:-1], "older": data[:4] + b"\1" + data[5:],
        "ten": data * 10, "twice": data + data,
        "shape": tg.UpdateCodec().encode(None, [np.ones((7, 7), "float32")] * 4)[0],
    }.get(kind)  # fmt: skip
    if kind == "dies":
        return flwr.Message(flwr.Error(code=2, reason="<class 'MemoryError'>"), metadata=reply.metadata)
    if kind == "late":
        return None
    if kind == "arrays":
        reply.content["arrays"] = flwr.ArrayRecord([np.array([1.0, np.nan])])
    if kind == "empty":
        reply.content = flwr.RecordDict()
    if kind == "samples":
        reply.content["tfgreen"] = flwr.ConfigRecord({**link, "samples": -5})
    if kind == "words":
        reply.content["tfgreen"] = flwr.ConfigRecord({**link, "client": "me"})
    if kind == "future":
        reply.content["tfgreen"] = flwr.ConfigRecord({**link, "version": 10**9})
    if kind == "metrics":
        reply.content["metrics"] = flwr.MetricRecord({"num-examples": 1, "other": 3.0})
    if update is not None:
        arrays["0"].data = update
        reply.content["arrays"] = flwr.ArrayRecord({"0": arrays["0"]})
    return reply


@pytest.mark.parametrize(
    "kind, words",
    [
        ("dies", "MemoryError"),
        ("late", "nothing arrived within 5 seconds"),
        ("garbage", "something else"),
        ("cut", "checksum"),
        ("older", "version 2 of the format, received 1"),
        ("ten", "checksum"),
        ("twice", "checksum"),
        ("shape", "weights of other names"),
        ("arrays", "received arrays of type"),
        ("empty", "without client, refused, samples"),
        ("samples", "a right 'samples', received -5"),
        ("words", "a right 'client', received me"),
        ("metrics", "its metrics"),
    ],
)
def test_what_a_client_answers_wrongly_is_named_and_the_round_goes_on(kind, words):
    def between(grid, client, reply):
        return garbage(kind, reply) if (grid.round, client) == (2, 1) else reply

    run, _ = federate(between, strategy=strategies.FedAvg(fraction_evaluate=0.0))
    assert run.history["updates"] == [3, 2, 3]
    assert "round 2, client 1: " in run.refused[0] and words in run.refused[0] and len(run.refused) == 1
    assert np.isfinite(weights(run)).all() and run.history["loss"][2] < run.history["loss"][0]


def test_a_client_that_lost_all_gets_all_weights_the_time_after():
    def between(grid, client, reply):
        if grid.round == 1 and client == 2:
            grid.contexts[13].state = flwr.RecordDict()
        return garbage("future", reply) if (grid.round, client) == (1, 1) else reply

    run, grid = federate(between)
    assert run.history["updates"] == [3, 2, 3]
    assert "round 2, client 2: The server sent what changed since version 0, but the client has nothing" in str(run)
    sent = {(number, node): count for number, node, count in grid.sent}
    assert sent[2, 12] > 2 * sent[2, 11] and sent[3, 13] > 2 * sent[3, 11]


def test_settings_that_differ_are_said_and_not_blamed_on_the_model():
    other = tg.federated.FederatedConfig(clients=2, rounds=1, codec=tg.UpdateCodec(bits=4))
    for public, config, words in ((None, other, "bits=4"), (data_fn(9)[0], None, "shared: predictions on public_data")):
        mine = config or tg.federated.FederatedConfig(clients=2, rounds=1)
        client_app = tg.federated.client(model_fn, data_fn, mine, public_data=public)
        ours = tg.federated.FederatedConfig(clients=2, rounds=1)
        run, _ = run_apps(client_app, lambda finished: tg.federated.server(model_fn, ours, finished=finished), 2)
        assert run.history["updates"] == [0] and "No update was used" in run.notes[-1]
        assert "client 0: settings: expected those of the server (shared: weights" in run.refused[0]
        assert words in run.refused[0]


def test_public_data_are_shared_as_in_the_simulation():
    public = data_fn(9)[0]
    config = tg.federated.FederatedConfig(clients=3, rounds=3, batch_size=8)
    client_app = tg.federated.client(model_fn, data_fn, config, public_data=public)

    def server_app(finished):
        return tg.federated.server(model_fn, config, finished=finished, public_data=public)

    run, _ = run_apps(client_app, server_app, 3)
    expected = simulate(clients=3, rounds=3, public_data=public)
    np.testing.assert_array_equal(weights(run), weights(expected))
    assert run.bytes_up == expected.bytes_up


def test_two_nodes_of_one_number_are_refused_and_one_started_again_is_not():
    def between(grid, client, reply):
        if grid.round == 1 and client == 1:
            grid.contexts[12].node_config["partition-id"] = 0
        if grid.round == 2 and client == 2:
            grid.contexts[14] = grid.contexts.pop(13)  # a restart: Flower gives it another number
        return reply

    run, _ = federate(between)
    assert run.history["updates"] == [3, 2, 2]
    assert "partition-id: expected a number that no other SuperNode has, received 0" in run.refused[0]
    assert [c.client for c in run.rounds[2].clients if not c.refused] == [0, 2]


def test_what_a_client_raises_is_said_with_its_number():
    def fails(client):
        if client == 1:
            raise RuntimeError("no data today")
        return data_fn(client)

    run, _ = federate(data=fails)
    assert run.refused[0] == "round 1, client 1: it raised RuntimeError: no data today"
    assert run.history["updates"] == [2, 2, 2] and run.joules > 0

    def no_model():
        raise MemoryError("none left")

    config = tg.federated.FederatedConfig(clients=2, rounds=1)
    broken = tg.federated.client(no_model, data_fn, config)
    run, _ = run_apps(broken, lambda finished: tg.federated.server(model_fn, config, finished=finished), 2)
    assert "client 0: it raised MemoryError: none left" in run.refused[0]


def test_fewer_clients_than_wanted_and_wrong_arguments_are_named():
    config = tg.federated.FederatedConfig(clients=3, rounds=1)
    client_app = tg.federated.client(model_fn, data_fn, config)
    with pytest.raises(ValueError, match="1 of 3 clients connected within 0.01 seconds. Start more SuperNodes"):
        run_apps(client_app, lambda finished: tg.federated.server(model_fn, config, timeout=0.01), 1)
    wants = strategies.FedAvg(fraction_evaluate=0.0, min_available_nodes=9)
    with pytest.raises(ValueError, match="clients: expected at least the 9 that the strategy wants, received 3"):
        federate(strategy=wants)
    with pytest.raises(TypeError, match="finished: expected a function"):
        tg.federated.server(model_fn, config, finished=3)
    for wrong in ("FedAvg", strategies.FedAvg):
        with pytest.raises(TypeError, match="strategy: expected a strategy of flwr"):
            tg.federated.server(model_fn, config, strategy=wrong)
    with pytest.raises(TypeError, match="public_data: expected samples"):
        tg.federated.server(model_fn, config, public_data="a")
    for mods in (print, [3]):
        with pytest.raises(TypeError, match="mods: expected a list of mods"):
            tg.federated.client(model_fn, data_fn, config, mods=mods)
    with pytest.raises(TypeError, match="callbacks_fn: expected a function"):
        tg.federated.client(model_fn, data_fn, config, callbacks_fn=[])
    with pytest.raises(ValueError, match="timeout: expected a number"):
        tg.federated.server(model_fn, config, timeout=0)
    with pytest.raises(ValueError, match="config: expected clients and rounds"):
        tg.federated.server(model_fn, clients=3)
