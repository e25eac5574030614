"""What is told of a training after its first epochs, on made-up amounts."""

from __future__ import annotations

import numpy as np
import pytest

from tfgreen.energy.prediction import EnergyPrediction, predict, quantile, steady


def test_the_first_batch_and_the_first_epoch_say_nothing_of_the_others():
    counts = [1, 4, 9, 16]
    totals = np.array([[500.0 + 2 * (count - 1), 50.0 + 0.1 * (count - 1)] for count in counts])  # tracing takes 500
    pace = steady(counts, totals)
    np.testing.assert_allclose(pace[0], [32.0, 1.6])
    np.testing.assert_allclose(pace[1], 0, atol=1e-9)
    whole, error = predict(np.array([[530.0, 51.5]]), pace, 10)
    np.testing.assert_allclose(whole, [530 + 9 * 32, 51.5 + 9 * 1.6])
    np.testing.assert_allclose(error, 0, atol=1e-9)


def test_from_the_third_epoch_on_epochs_speak_for_themselves():
    past = np.array([[100.0, 1.0], [10.0, 1.0], [12.0, 1.0], [11.0, 1.0]])
    whole, error = predict(past, (np.array([90.0, 1.0]), np.zeros(2)), 14)
    assert whole[0] == pytest.approx(133 + 10 * 11)
    assert error[0] == pytest.approx(10 * 4.303 * 1.0 * np.sqrt(1 / 3 + 1 / 10)) and error[1] == 0
    assert predict(past, None, 4)[1][0] == 0  # nothing is left to tell


def test_what_is_known_once_may_be_twice_as_much_and_nothing_is_told_of_nothing():
    assert predict(np.array([[100.0, 1.0]]), None, 3) is None
    whole, error = predict(np.array([[100.0, 1.0], [10.0, 1.0]]), None, 5)
    assert (whole[0], error[0]) == (140.0, 30.0)
    mean, error = steady([1, 2], np.array([[9.0], [10.0]]))
    assert mean == error == [2.0]


def test_the_interval_holds_the_truth_in_95_of_100_trainings():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        counts = np.arange(1, 100, 7)
        used = rng.normal(7.0, 0.7, (len(counts), 1))
        mean, error = steady(list(counts), 40 + np.cumsum(used, axis=0))
        held += abs(mean[0] - counts[-1] * 1.0) <= error[0]
    assert held / 400 > 0.9


def test_a_prediction_reads_as_a_sentence():
    told = EnergyPrediction(0.5, (0.4, 0.6), 0.19, 3600.0, 10, 1)
    assert str(told) == (
        "10 epochs will use 0.5 kWh (0.4 to 0.6), 0.19 kg of CO2e, and take 3,600 s; told after 1 epoch"
    )
    assert told.to_dict()["interval"] == [0.4, 0.6] and "<p>" in told._repr_html_()
    assert quantile(1) == 12.706 and quantile(100) == 1.96
