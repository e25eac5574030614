"""Settings of the losses: what they refuse, and that they save."""

from __future__ import annotations

import keras
import pytest

import tfgreen as tg

LAYERS = {"teacher_layer_name": "a", "student_layer_name": "b"}
ALL = [
    tg.LogitsDistillation(2.0, "categorical_crossentropy", output="label", activation="sigmoid"),
    tg.LogitsDistillation(temperature=keras.optimizers.schedules.CosineDecay(8.0, 100, 0.1), from_logits=(False, None)),
    tg.DecoupledDistillation(alpha=0.5, beta=2.0, teacher=1),
    tg.RelationalDistillation(beta=0.5, gamma=2.0),
    tg.FeatureDistillation(loss="cosine", **LAYERS),
    tg.AttentionTransfer(power=1.0, **LAYERS),
    tg.AttentionTransfer(layer_map={0: 0, "conv": 1}),
    tg.FeatureDistillation(layer_map={0: 0, 3: 1, 6: 2}, mask="padding"),
    tg.AttentionMapDistillation(**LAYERS),
    tg.AttentionRelationDistillation(layer_map={11: 5}, relations=("value",), relation_heads=12),
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
        (ValueError, "AttentionMapDistillation: expected both.*or layer_map", lambda: tg.AttentionMapDistillation("a")),
        (ValueError, "layer_map alone.*both", lambda: tg.FeatureDistillation(layer_map={0: 0}, **LAYERS)),
        (ValueError, "layer_map: expected a dict", lambda: tg.FeatureDistillation(layer_map={})),
        (ValueError, "layer_map: expected a dict", lambda: tg.FeatureDistillation(layer_map=[0, 3])),
        (TypeError, "layer_map.*numbers or names.*float", lambda: tg.FeatureDistillation(layer_map={0.5: 0})),
        (ValueError, "relations.*'value'", lambda: tg.AttentionRelationDistillation(**LAYERS, relations=["v"])),
        (ValueError, "relations.*at least one", lambda: tg.AttentionRelationDistillation(**LAYERS, relations=[])),
        (ValueError, "relation_heads", lambda: tg.AttentionRelationDistillation(**LAYERS, relation_heads=0)),
        (ValueError, "power", lambda: tg.AttentionTransfer(power=0, **LAYERS)),
    ],
)
def test_bad_settings(error, match, make):
    with pytest.raises(error, match=match):
        make()
