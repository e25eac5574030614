"""The server: averages by samples, refuses outliers, and sends no more than the weights."""

from __future__ import annotations

import numpy as np

import tfgreen as tg
from tfgreen.federated.server import Broadcast, Reply, average, outliers

RNG = np.random.default_rng(0)


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
    whole = server.bytes_to(None)
    assert 20000 <= whole < 20100 and server.bytes_to(0) == 0
    for _ in range(6):
        server.publish([server.own[0] + RNG.normal(size=5000).astype("float32") * 0.01])
    one = server.bytes_to(5)
    assert 3000 < one < 6000 and abs(server.bytes_to(4) - 2 * one) < 200
    assert server.bytes_to(0) == whole  # six updates are more bytes than the weights
    assert Broadcast(weights, None).bytes_to(None) == whole


def test_what_coding_left_out_arrives_later_and_nothing_twice():
    server = Broadcast({"w": np.zeros(1000, "float32")}, tg.UpdateCodec(top_k=0.1, bits=4))
    target = RNG.normal(size=1000).astype("float32")
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
