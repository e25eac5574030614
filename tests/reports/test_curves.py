"""Curves: plain points with gaps."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import tfgreen as tg
from tfgreen.energy.prediction import EnergyPrediction
from tfgreen.reports.curves import Curve, energy_curve, training_curves


def test_points_become_plain_and_what_is_not_finite_a_gap():
    points = [(np.int64(1), np.float32(2.0)), (2, math.nan), (np.float64(2.5), math.inf), (3, None)]
    curve = Curve(title="t", x_label="step", y_label="loss", series={"a": points})
    assert curve.series == {"a": ((1, 2.0), (2, None), (2.5, None), (3, None))}
    data = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert data["series"]["a"][0] == [1, 2.0] and type(curve.series["a"][0][0]) is int
    assert Curve(**data) == curve


def test_training_and_validation_of_a_metric_share_a_curve():
    history = {"loss": [2.0, 1.0], "val_loss": [2.5, 1.5], "accuracy": [0.5, 0.6], "val_only": [1.0]}
    curves = training_curves(history, title="pruning")
    assert [curve.title for curve in curves] == ["pruning: loss", "pruning: accuracy", "pruning: only"]
    assert curves[0].series == {"training": ((1, 2.0), (2, 1.0)), "validation": ((1, 2.5), (2, 1.5))}
    assert list(curves[1].series) == ["training"] and list(curves[2].series) == ["validation"]


def test_bands_and_marks_go_to_plain_values_and_back():
    found = tg.break_even(np.float32(2.0), 1.0, cost=100).plot()
    curve = tg.Curve(**{**found, "bands": {"before": [(np.int64(0), 1, np.float64(2))]}})
    data = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert data["bands"] == {"before": [[0, 1, 2]]} and data["marks"] == {"break-even": [100, 100, 100]}
    assert tg.Curve(**data) == curve
    drawn = curve._repr_html_()
    assert drawn.startswith("<figure") and "fill-opacity" in drawn and "stroke-dasharray" in drawn


def test_epochs_stand_beside_the_mean_that_was_predicted():
    prediction = EnergyPrediction(0.01, (0.009, 0.011), None, 60.0, epochs=10, after=1)
    curve = energy_curve([4000.0, None, 3500.0], prediction)
    name = "mean, predicted after epoch 1"
    assert curve.y_label == "energy (kJ)" and curve.series["used"] == ((1, 4.0), (2, None), (3, 3.5))
    assert curve.series[name] == ((1, pytest.approx(3.6)), (10, pytest.approx(3.6)))
    assert curve.bands[name] == (pytest.approx((1, 3.24, 3.96)), pytest.approx((10, 3.24, 3.96)))
    alone = energy_curve([0.5])
    assert alone.y_label == "energy (mJ)" and list(alone.series) == ["used"] and not alone.bands
