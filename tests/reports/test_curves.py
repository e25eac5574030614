"""Curves: plain points with gaps."""

from __future__ import annotations

import json
import math

import numpy as np

from tfgreen.reports.curves import Curve, training_curves


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
