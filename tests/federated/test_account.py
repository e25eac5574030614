"""FederatedRun: sums over rounds and clients, and None where a reading is missing."""

from __future__ import annotations

import keras
import pytest

from tfgreen.federated.account import ClientRound, FederatedRun, Round, total


def run(joules: float | None = 2.0) -> FederatedRun:
    clients = (ClientRound(0, 10, 100, 10, 1.0, ""), ClientRound(3, 20, 50, 30, joules, "nothing arrived"))
    rounds = (Round(1, clients, 0.5, None, {"accuracy": 0.5}), Round(2, clients[:1], 0.5, None, {"accuracy": 0.75}))
    return FederatedRun(keras.Sequential(), rounds, "estimate", (), lambda client: keras.Sequential())


def test_the_history_has_a_value_per_round():
    expected = {"bytes_up": [40, 10], "bytes_down": [150, 100], "joules": [3.5, 1.5], "updates": [1, 1]}
    assert run().history == {**expected, "accuracy": [0.5, 0.75]}
    assert (run().bytes_up, run().bytes_down, run().joules) == (50, 250, 5.0)
    assert run().refused == ("round 1, client 3: nothing arrived",)
    assert run().plot()["series"]["uplink"] == [(40 / 1e6, 0.5), (50 / 1e6, 0.75)]


def test_a_missing_reading_is_no_zero():
    assert run(None).joules is None and run(None).history["joules"] == [None, 1.5]
    assert "no energy reading" in repr(run(None)) and "nothing was heard" not in str(run(None))
    assert total([1, None]) is None and total([1, 2]) == 3


def test_one_that_died_is_left_out_of_the_energy_and_said():
    clients = (ClientRound(0, 10, 100, 10, 1.0, ""), ClientRound(3, 0, 50, 0, None, "it died", answered=False))
    dead = FederatedRun(keras.Sequential(), (Round(1, clients, 0.5, None, {}),), "estimate", (), lambda client: None)
    assert dead.joules == 1.5 and "without that of 1 training of which nothing was heard" in str(dead)


def test_it_prints_its_rounds_and_what_was_refused():
    text = str(run())
    assert "1 of 2" in text and "accuracy 0.75" in text and "client 3: nothing arrived" in text
    with pytest.raises(ValueError, match=r"metric: expected one of \['accuracy'\], received loss"):
        run().plot("loss")
