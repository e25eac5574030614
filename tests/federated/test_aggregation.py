"""The server: averages by samples, refuses outliers, and sends no more than the weights."""

from __future__ import annotations

import numpy as np

import tfgreen as tg
from tfgreen.federated.aggregation import Broadcast, Reply, average, outliers

RNG = np.random.default_rng(0)


def size(server: Broadcast, version: int | None) -> int:
    return sum(map(len, server.updates_for(version)[1]))


def test_floats_are_averaged_by_samples_bools_by_majority_integers_are_taken():
    replies = [
        Reply(0, 1, [np.array([1.0], "float16"), np.array([True, True]), np.array([5])]),
        Reply(1, 3, [np.array([5.0], "float16"), np.array([False, True]), np.array([7])]),
    ]
    floats, bools, integers = average(replies)
    assert floats.tolist() == [4.0] and floats.dtype == np.float16
    assert bools.tolist() == [False, True] and integers.tolist() == [7]


def test_an_outlier_needs_three_updates_and_names_the_weight():
    before = [np.zeros(10, "float32"), np.zeros(10, "float32")]
    replies = [Reply(i, 1, [w + 1, w + (1 if i else 100)]) for i, w in enumerate([before[0]] * 4)]
    found = outliers(before, replies, ["kernel", "bias"], 10)
    assert list(found) == [0] and "70.7 times the median" in found[0] and "weight 'bias'" in found[0]
    assert not outliers(before, replies[:2], ["kernel", "bias"], 10)


def test_a_client_gets_what_it_missed_or_all_where_that_is_less():
    weights = {"w": RNG.normal(size=5000).astype("float32")}
    server = Broadcast(weights, tg.UpdateCodec())
    whole = size(server, None)
    assert 20000 <= whole < 20100 and server.updates_for(0) == (0, [])
    for _ in range(6):
        server.publish([server.own[0] + RNG.normal(size=5000).astype("float32") * 0.01])
    one = size(server, 5)
    assert 3000 < one < 6000 and abs(size(server, 4) - 2 * one) < 200
    assert server.updates_for(0)[0] is None and size(server, 0) == whole  # six updates are more bytes than the weights
    assert server.updates_for(9)[0] is None  # a version of the future
    assert size(Broadcast(weights, None), None) == whole
    known = {"w": np.zeros(5000, "float32")}
    for update in (*server.updates_for(0)[1], *server.updates_for(6)[1]):
        known = tg.UpdateCodec().decode(update, known)
    np.testing.assert_array_equal(known["w"], server.weights["w"])


def test_what_coding_left_out_arrives_later_and_nothing_twice():
    server = Broadcast({"w": np.zeros(10_000, "float32")}, tg.UpdateCodec(top_k=0.1, bits=4))
    target = RNG.normal(size=10_000).astype("float32")
    server.publish([target])
    assert np.abs(server.weights["w"] - target).max() > 0.5
    for _ in range(60):
        server.publish([server.moved([server.weights["w"]])[0]])  # a client that learns nothing
    np.testing.assert_allclose(server.own[0], target, atol=1e-5)
    np.testing.assert_allclose(server.weights["w"], target, atol=0.05)


def test_a_weight_that_a_client_pruned_is_zero_at_the_server():
    server = Broadcast({"w": RNG.normal(size=100).astype("float32")}, tg.UpdateCodec(bits=4))
    server.publish([server.own[0] + RNG.normal(size=100).astype("float32")])
    trained = server.weights["w"] * (np.arange(100) % 2).astype("float32")
    moved = server.moved([trained])[0]
    assert not moved[::2].any() and moved[1::2].all()
    server.publish([moved])
    assert not server.weights["w"][::2].any()
