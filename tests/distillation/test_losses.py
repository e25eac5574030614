"""Settings of the losses: what they refuse, and that they save."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.distillation import divergences as losses

LAYERS = {"teacher_layer_name": "a", "student_layer_name": "b"}
ALL = [
    tg.LogitsDistillation(2.0, "categorical_crossentropy", output="label", activation="sigmoid"),
    tg.LogitsDistillation(temperature=keras.optimizers.schedules.CosineDecay(8.0, 100, 0.1), from_logits=(False, None)),
    tg.DecoupledDistillation(alpha=0.5, beta=2.0, teacher=1),
    tg.RelationalDistillation(beta=0.5, gamma=2.0),
    tg.FeatureDistillation(loss="cosine", **LAYERS),
    tg.AttentionTransfer(power=1.0, **LAYERS),
]


@keras.saving.register_keras_serializable(package="test")
def falling(step):
    return 8.0 / (1.0 + keras.ops.cast(step, "float32"))


@pytest.mark.parametrize("loss", [*ALL, tg.LogitsDistillation(temperature=falling)], ids=lambda x: type(x).__name__)
def test_losses_survive_serialization(loss):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    if not callable(getattr(loss, "temperature", None)):
        assert again == loss


def test_each_loss_computes_its_function():
    rng = np.random.default_rng(0)
    t, s = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    labels, weights = rng.integers(0, 5, (3, 4)), np.ones((3, 4), "float32")
    context = {"activation": "softmax", "labels": labels, "weights": weights, "step": 0}
    for loss, expected in (
        (tg.LogitsDistillation(temperature=3.0), losses.kl_divergence(t, s, 3.0)),
        (tg.LogitsDistillation(temperature=3.0, loss="categorical_crossentropy"), losses.soft_cross_entropy(t, s, 3.0)),
        (tg.DecoupledDistillation(temperature=3.0, beta=2.0), losses.decoupled_kl(t, s, labels, 3.0, 1.0, 2.0)),
        (tg.RelationalDistillation(gamma=2.0), losses.relational(t, s, 1.0, 1.0, 2.0)),
        (tg.FeatureDistillation(), losses.mean_squared_error(t, s)),
        (tg.FeatureDistillation(loss="cosine"), losses.cosine_distance(t, s)),
        (tg.AttentionTransfer(power=1.0, **LAYERS), losses.attention_transfer(t, s, 1.0)),
    ):
        np.testing.assert_allclose(loss.values(t, s, **context), expected, rtol=1e-6)
    binary = tg.LogitsDistillation(temperature=3.0).values(t, s, **{**context, "activation": "sigmoid"})
    np.testing.assert_allclose(binary, losses.of_each_label(losses.kl_divergence, t, s, 3.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("error", "match", "make"),
    [
        (ValueError, "temperature.*> 0, received 0", lambda: tg.LogitsDistillation(temperature=0)),
        (ValueError, "temperature.*> 0, received -1", lambda: tg.DecoupledDistillation(temperature=-1.0)),
        (ValueError, "temperature.*> 0, received nan", lambda: tg.RelationalDistillation(temperature=float("nan"))),
        (TypeError, "temperature.*number.*str", lambda: tg.LogitsDistillation(temperature="4")),
        (
            ValueError, "temperature, at step 10: .*> 0, received -8",
            lambda: tg.LogitsDistillation(temperature=keras.optimizers.schedules.PolynomialDecay(8.0, 10, -8.0)),
        ),
        (ValueError, "loss.*kl_divergence", lambda: tg.LogitsDistillation(loss="kl")),
        (ValueError, "loss.*'mse'", lambda: tg.FeatureDistillation(loss="l1")),
        (TypeError, "loss.*received NoneType", lambda: tg.FeatureDistillation(loss=None)),
        (TypeError, "loss.*at least one", lambda: tg.LogitsDistillation(loss=[None, None])),
        (ValueError, "loss.*averaged.*sum", lambda: tg.FeatureDistillation(keras.losses.Huber(reduction="sum"))),
        (ValueError, "activation", lambda: tg.LogitsDistillation(activation="relu")),
        (ValueError, "from_logits", lambda: tg.LogitsDistillation(from_logits="yes")),
        (ValueError, "from_logits", lambda: tg.LogitsDistillation(from_logits=(True, False, True))),
        (ValueError, "beta.*>= 0", lambda: tg.DecoupledDistillation(beta=-1)),
        (ValueError, "gamma.*>= 0", lambda: tg.RelationalDistillation(gamma=-1)),
        (ValueError, "both teacher_layer_name and student_layer_name", lambda: tg.AttentionTransfer("a")),
        (TypeError, "teacher_layer_name.*name", lambda: tg.FeatureDistillation("mse", 3, "a")),
        (ValueError, "AttentionTransfer.*teacher_layer_name", lambda: tg.AttentionTransfer()),
        (ValueError, "power", lambda: tg.AttentionTransfer(power=0, **LAYERS)),
    ],
)
def test_bad_settings(error, match, make):
    with pytest.raises(error, match=match):
        make()
