"""simulate: what clients learn reaches the model; what cannot be right is refused, and the round goes on."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg

TRUE = np.random.default_rng(9).normal(size=(6, 3)).astype("float32")


def data_fn(client: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(client).normal(size=(40, 6)).astype("float32")
    return x, x @ TRUE


def model_fn() -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(16), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5), "mse")
    return model


def normalized_fn() -> keras.Model:
    layers = keras.layers
    parts = [layers.Dense(16), layers.BatchNormalization(name="norm"), layers.Dropout(0.1), layers.Dense(3)]
    model = keras.Sequential([keras.Input((6,)), *parts])
    model.compile("adam", "mse")
    return model


def simulate(**options: object) -> tg.federated.FederatedRun:
    arguments = {"clients": 4, "rounds": 8, "batch_size": 8, "evaluation_data": data_fn(99), **options}
    return tg.federated.simulate(arguments.pop("model_fn", model_fn), arguments.pop("data_fn", data_fn), **arguments)


def weights(run: tg.federated.FederatedRun) -> np.ndarray:
    return np.concatenate([w.reshape(-1) for w in run.model.get_weights()])


@pytest.mark.parametrize("codec", [None, tg.UpdateCodec(), tg.UpdateCodec(top_k=0.25, bits=4)], ids=str)
def test_clients_learn_together(codec):
    losses = simulate(codec=codec, rounds=12).history["loss"]
    assert losses[-1] < 0.1 * losses[0]


def test_one_client_that_sends_all_is_plain_training():
    """Without compression one client's rounds are epochs of fit with the same samples."""
    run = simulate(clients=1, rounds=3, codec=None, downlink=None)
    keras.utils.set_random_seed(0)
    model = model_fn()
    x, y = data_fn(0)
    for number in (1, 2, 3):
        order = np.random.default_rng((0, number, 0)).permutation(len(x))
        model.fit(x[order], y[order], batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_array_equal(weights(run), np.concatenate([w.reshape(-1) for w in model.get_weights()]))


def test_equal_seeds_give_equal_weights_and_bytes():
    options = {"model_fn": normalized_fn, "rounds": 3, "clients_per_round": 2}
    first, again, other = simulate(**options), simulate(**options), simulate(**options, seed=1)
    np.testing.assert_array_equal(weights(first), weights(again))
    counted = ("bytes_up", "bytes_down", "loss")
    assert [first.history[name] for name in counted] == [again.history[name] for name in counted]
    assert not np.array_equal(weights(first), weights(other))


def test_the_account_counts_what_was_sent():
    sent = []

    def transmit(number: int, client: int, update: bytes) -> bytes:
        sent.append((number, client, len(update)))
        return update

    run = simulate(rounds=4, clients_per_round=2, transmit=transmit)
    told = [(each.number, c.client, c.bytes_up) for each in run.rounds for c in each.clients]
    assert told == sent and run.bytes_up == sum(size for *_, size in sent)
    assert run.bytes_down == sum(c.bytes_down for each in run.rounds for c in each.clients) > 0
    assert all(len(each.clients) == 2 and each.server_joules > 0 for each in run.rounds) and run.joules > 0
    curve = tg.Curve(**run.plot("loss"))
    assert curve.series["uplink"][-1] == (run.bytes_up / 1e6, run.history["loss"][-1])
    with pytest.raises(ValueError, match=r"metric: expected one of \['loss'\], received accuracy"):
        run.plot()
    assert "4 rounds" in repr(run) and "2 of 2" in str(run)
    assert run.to_dict()["rounds"][0]["clients"][0]["bytes_up"] == sent[0][2] and run.co2e_kg is None
    assert simulate(rounds=1, region="DEU").co2e_kg > 0


def test_what_arrives_broken_is_refused_and_named_and_the_round_goes_on():
    snapshot = tg.UpdateCodec(entropy=None)

    def transmit(number: int, client: int, update: bytes) -> bytes | None:
        if number != 2:
            return update
        older = bytearray(update)
        older[4] = 0
        return {0: None, 1: b"garbage", 2: bytes(older), 3: update[:-1], 4: snapshot.encode(None, other)[0]}.get(
            client, update
        )

    other = {f"sequential/{name}": np.ones(3, "float32") for name in "abcd"}
    run = simulate(clients=7, rounds=3, transmit=transmit)
    assert run.history["updates"] == [7, 2, 7] and run.history["loss"][2] < run.history["loss"][0]
    reasons = dict(zip(range(5), run.refused))
    for client, words in enumerate(("nothing arrived", "something else", "version 2", "checksum", "other names")):
        assert f"round 2, client {client}: " in reasons[client] and words in reasons[client]


def test_an_update_far_larger_than_the_others_is_refused_with_its_weight():
    def far(client: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = data_fn(client)
        return x, y * (40 if client == 2 else 1)

    run = simulate(data_fn=far, rounds=1, clients=5)
    assert run.history["updates"] == [4] and "client 2: update: its norm is" in run.refused[0]
    assert "weight 'sequential" in run.refused[0] or "weight 'dense" in run.refused[0]
    assert not simulate(data_fn=far, rounds=1, clients=5, max_update_ratio=None).refused


def test_a_client_that_diverges_is_refused_and_recovers():
    def diverges(client: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = data_fn(client)
        return x, y * np.float32(np.nan if client == 1 else 1)

    run = simulate(data_fn=diverges, rounds=2)
    assert run.history["updates"] == [3, 3] and "client 1: weight '" in run.refused[0]
    assert np.isfinite(weights(run)).all()
    nobody = simulate(transmit=lambda *_: None, rounds=1)
    assert nobody.history["updates"] == [0] and np.isfinite(nobody.history["loss"][0])


def test_statistics_stay_at_their_clients_unless_they_are_shared():
    def shifted(client: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = data_fn(client)
        return x + 10 * client, y

    run = simulate(model_fn=normalized_fn, data_fn=shifted, clients=2, rounds=2, evaluation_data=None)
    own = [run.client_model(client).get_layer("norm") for client in (0, 1)]
    assert not np.allclose(own[0].moving_mean, own[1].moving_mean)
    np.testing.assert_array_equal(own[0].gamma, own[1].gamma)
    assert not np.any(run.model.get_layer("norm").moving_mean) and "BatchNormalization" in run.notes[0]
    with pytest.raises(ValueError, match=r"client: expected a client that has trained, of \[0, 1\], received 7"):
        run.client_model(7)
    shared = simulate(model_fn=normalized_fn, data_fn=shifted, clients=2, rounds=2, statistics="shared")
    assert np.any(shared.model.get_layer("norm").moving_mean) and not shared.notes


def test_a_pruned_model_keeps_its_zeros_and_sends_less():
    def pruned_fn() -> keras.Model:
        schedule = tg.ConstantSparsity(0.75, begin_step=0, end_step=0)
        model = tg.prune(wide_fn(), tg.PruneConfig(schedule=schedule))
        tg.UpdateCompression(model).step()
        model.compile("sgd", "mse")
        return model

    def wide_fn() -> keras.Model:
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(200), keras.layers.Dense(3)])
        model.compile("sgd", "mse")
        return model

    options = {"rounds": 3, "clients": 2, "callbacks_fn": lambda: [tg.UpdateCompression()]}
    run = simulate(model_fn=pruned_fn, **options)
    kernel = tg.strip(run.model).layers[0].kernel
    assert np.mean(np.asarray(kernel) == 0) == pytest.approx(0.75, abs=0.01)
    plain = simulate(model_fn=wide_fn, rounds=3, clients=2)
    assert run.history["bytes_up"][-1] < 0.55 * plain.history["bytes_up"][-1]
    assert tg.convert(tg.strip(run.model)).size_bytes > 0


def test_a_clustered_model_sends_no_assignments_and_keeps_its_clusters():
    def wide_fn() -> keras.Model:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(400), keras.layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.05), "mse")
        return model

    def clustered_fn() -> keras.Model:
        model = tg.cluster(tg.prune(wide_fn(), schedule=tg.ConstantSparsity(0.5, 0, 0)), number_of_clusters=16)
        tg.UpdateCompression(model).step()
        model.compile(keras.optimizers.SGD(0.05), "mse")
        return model

    options = {"rounds": 4, "clients": 2, "codec": tg.UpdateCodec(top_k=0.5)}
    run = simulate(model_fn=clustered_fn, callbacks_fn=lambda: [tg.UpdateCompression()], **options)
    assert run.history["loss"][-1] < 0.5 * run.history["loss"][0]
    assert run.bytes_up < 1.1 * simulate(model_fn=wide_fn, **options).bytes_up
    for layer in tg.strip(run.model).layers:
        assert len(np.unique(layer.kernel)) <= 17
    # What a weight is assigned to is the nearest of the centroids that the server averaged.
    for layer in run.model.layers:
        (weight,) = layer.chained
        masked, codebook = weight.chain.transforms[0].apply(weight.value), weight.chain.transforms[1]
        table = np.asarray(codebook.values())
        nearest = np.abs(np.asarray(masked)[..., None] - table).min(-1)
        np.testing.assert_allclose(np.abs(np.asarray(masked) - table[np.asarray(codebook.assignments)]), nearest)


def test_callbacks_stop_a_training_as_in_fit():
    epochs = []

    def callbacks() -> list[keras.callbacks.Callback]:
        told = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
        return [keras.callbacks.EarlyStopping("loss", min_delta=1e6, patience=0), told]

    simulate(clients=1, rounds=2, epochs=8, callbacks_fn=callbacks)
    assert epochs == [0, 1, 0, 1]


def test_the_shared_model_is_evaluated_with_weights_and_by_functions():
    x, y = data_fn(99)
    whole, first = simulate(rounds=1), simulate(rounds=1, evaluation_data=(x, y, np.r_[np.ones(10), np.zeros(30)]))
    half = simulate(rounds=1, evaluation_data=(x[:10], y[:10]))
    assert first.history["loss"][0] == pytest.approx(half.history["loss"][0] / 4, rel=1e-5)  # of 40 samples
    assert whole.history["loss"] != first.history["loss"]
    assert simulate(rounds=1, evaluation_data=lambda model: {"error": np.float32(3)}).history["error"] == [3.0]


def test_a_client_that_raises_is_named_and_the_round_goes_on_unless_all_do():
    def fails(client: int) -> tuple[np.ndarray, np.ndarray]:
        if client == 2:
            raise OSError("no disk\n today")
        x, y = data_fn(client)
        return (x[:, :4], y) if client == 1 else (x, y)

    run = simulate(data_fn=fails, rounds=2)
    assert run.history["updates"] == [2, 2] and run.joules > 0
    assert "round 1, client 1: it raised InvalidArgumentError: Matrix size-incompatible" in run.refused[0]
    assert run.refused[1] == "round 1, client 2: it raised OSError: no disk"
    with pytest.raises(ValueError, match="All clients of round 1 have raised; client 0: it raised IndexError: gone"):
        simulate(data_fn=gone, rounds=1)
    lost = simulate(transmit=lambda *_: None, rounds=1)
    assert lost.notes == ("No update was used in any round: the model is that of the start.",)


def gone(client: int) -> tuple[np.ndarray, np.ndarray]:
    raise IndexError("gone")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"clients": 0}, "clients: expected an integer >= 1"),
        ({"clients_per_round": 5}, "clients_per_round: expected at most the 4 clients, received 5"),
        ({"data_fn": lambda client: None}, r"data of client 0: expected \(x, y\), received NoneType"),
        ({"data_fn": lambda client: (np.ones((0, 6)), np.ones((0, 3)))}, "data of client 0: expected samples"),
        ({"model_fn": lambda: None}, "model_fn: expected a keras.Model, received NoneType"),
        ({"model_fn": lambda: keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])}, "is not compiled"),
        ({"codec": "int8"}, "codec: expected a tg.UpdateCodec or None"),
        ({"strategy": 3}, "strategy: expected a strategy of flwr"),
        ({"client": 3}, "Did you mean 'clients'"),
        ({"region": "DE"}, "region: "),
        ({"region": 3}, "region: expected an ISO 3166"),
        ({"model_fn": model_fn()}, "model_fn: expected a function, received Sequential. Pass a function that makes it"),
        ({"callbacks_fn": []}, "callbacks_fn: expected a function, received list"),
        ({"callbacks_fn": lambda: None}, "callbacks_fn, its result: expected a list of Keras callbacks"),
        ({"callbacks_fn": lambda: [3]}, "callbacks_fn, in its result: expected a Keras callback, received int"),
        ({"transmit": 3}, "transmit: expected a function"),
        ({"transmit": lambda *_: 3}, "transmit, its result: expected bytes, or None"),
        ({"strategy": tg.UpdateCodec}, "strategy: expected a strategy of .* Call it"),
        ({"public_data": 3}, "public_data: expected samples as arrays, received int"),
        ({"public_data": "a"}, "public_data: expected samples as arrays, received str"),
        ({"public_data": np.ones((4, 5))}, "public_data of input .*: expected shape"),
        ({"evaluation_data": lambda model: None}, "evaluation_data: expected a function that returns a dict"),
        ({"evaluation_data": lambda model: {1: "a"}}, "evaluation_data: expected a function that returns a dict"),
        ({"evaluation_data": lambda model: {"bytes_up": 1}}, r"evaluation_data: .*account, received \['bytes_up'\]"),
        ({"data_fn": lambda client: ([[1.0] * 6], [[1.0] * 3])}, "data of client 0: .*np.array"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(tg.TfgreenError, match=words):
        simulate(**options)
    with pytest.raises(ValueError, match="config: expected clients and rounds, received no rounds"):
        tg.federated.simulate(model_fn, data_fn, clients=3)
