from __future__ import annotations

import keras
import pytest

from tfgreen.errors import TfgreenError
from tfgreen.recipes.metrics.direction import direction_of, is_metric, is_share, metric_name

NEEDS = {"IoU": (2, [0]), "MeanIoU": (2,), "BinaryIoU": ([0],), "OneHotIoU": (2, [0]), "OneHotMeanIoU": (2,),
         "PrecisionAtRecall": (0.5,), "RecallAtPrecision": (0.5,), "SensitivityAtSpecificity": (0.5,),
         "SpecificityAtSensitivity": (0.5,)}  # fmt: skip
LOWER = "crossentropy hinge error poisson kldivergence falsepositives falsenegatives"
CLASSES = [name for name, cls in vars(keras.metrics).items() if isinstance(cls, type)]


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"Metric", "Mean", "Sum", "MeanMetricWrapper"}))
def test_every_metric_of_keras_has_the_direction_that_its_documentation_says(name):
    metric = getattr(keras.metrics, name)(*NEEDS.get(name, ()), name="mine")
    is_lower = any(name.lower().endswith(end) for end in LOWER.split())
    assert direction_of(metric) == ("lower" if is_lower else "higher") and metric_name(metric) == "mine"


@pytest.mark.parametrize("name", [n for n, c in vars(keras.losses).items() if isinstance(c, type) and n != "Loss"])
def test_every_loss_of_keras_is_better_lower(name):
    assert direction_of(getattr(keras.losses, name)()) == "lower"


def rank_loss(y, outputs):
    return y


def test_names_and_functions():
    assert [direction_of(name) for name in ("acc", "val_label_accuracy", "auc_3", "my_f1_score")] == ["higher"] * 4
    assert [direction_of(name) for name in ("mse", "huber", "dice", "val_out_loss", "ce")] == ["lower"] * 5
    assert direction_of(keras.losses.cosine_similarity) == direction_of(rank_loss) == "lower"
    assert direction_of("cosine_similarity") == "higher"
    assert is_metric("auc") and is_metric(rank_loss) and not is_metric("huber") and not is_metric(keras.losses.Huber())


@pytest.mark.parametrize("metric", ["score", "neg_mean_squared_error", keras.metrics.Mean(name="size"), lambda y, p: y])
def test_a_direction_that_nothing_tells_is_asked_for(metric):
    with pytest.raises(TfgreenError, match="Say which is better: .*direction='higher'"):
        direction_of(metric)


@pytest.mark.parametrize(
    "metric, message",
    [
        ("acuracy", "expected a metric or loss of Keras, received 'acuracy'. Did you mean 'accuracy'"),
        ("mean_io_u", "One that takes arguments is passed as an object"),
        (3, "metric: expected a name, a keras.metrics.Metric, .* received int"),
        (keras.metrics.AUC, "Make an object of a class"),
    ],
)
def test_what_is_no_metric_is_named(metric, message):
    with pytest.raises(TfgreenError, match=message):
        metric_name(metric)


def test_shares_are_what_lies_between_0_and_1():
    shares = ("accuracy", "val_label_acc", "auc_3", keras.metrics.BinaryIoU(), keras.metrics.Precision(name="mine"))
    assert all(map(is_share, shares))
    others = ("mse", "r2_score", keras.metrics.TruePositives(), "not_accuracy", keras.losses.Dice(name="accuracy"))
    assert not any(map(is_share, others)) and not is_share(keras.metrics.MeanAbsoluteError(name="accuracy"))
