from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    norm = layers.BatchNormalization(name="norm")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu"), norm, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


def data():
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    return x, x[:, :1]


@pytest.mark.slow
def test_each_training_stands_beside_the_plain_one_of_its_round():
    model = network()
    before = model.get_weights()
    config = tg.TrainingConfig(epochs=2, batch_size=8, accumulate=2)
    result = tg.compare_training(
        model, data(), {"in parts": config, "short": tg.TrainingConfig(epochs=1)}, metric="val_mae", rounds=2,
        validation_data=data(),
    )  # fmt: skip
    assert list(result.runs) == ["plain", "in parts", "short"] and {len(runs) for runs in result.runs.values()} == {2}
    assert [len(result.runs[name][0].epoch) for name in result.runs] == [2, 2, 1]
    assert "fuse_batch_norm" not in result.runs["plain"][0].savings
    seconds = [run.seconds for run in result.runs["short"]]
    plain = [run.seconds for run in result.runs["plain"]]
    assert result.ratio("short") == pytest.approx(np.median([a / b for a, b in zip(seconds, plain)]))
    assert result.scores("short") == [run.history["val_mae"][-1] for run in result.runs["short"]]
    assert " 2  " in str(result).splitlines()[1] and " 1  " in str(result).splitlines()[3]
    assert "2 rounds" in repr(result) and "plain: " in str(result) and ", in 2 epochs" in str(result)
    for call in (lambda: result.ratio("long"), lambda: result.scores("long"), lambda: result.ratio("short", "watts")):
        with pytest.raises(tg.InvalidValueError, match="'short'|'joules'"):
            call()
    assert result.ratio("plain") == 1 and "in parts: accumulate on" in str(result) and "<table" in result._repr_html_()
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert "call" not in vars(model.get_layer("norm"))


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"trainings": {}}, ValueError, "one training or more"),
        ({"trainings": {"plain": tg.TrainingConfig()}}, ValueError, "other than 'plain'"),
        ({"trainings": {"a": 3}}, TypeError, "tg.TrainingConfig"),
        ({"rounds": 0}, ValueError, "rounds"),
        ({"metric": "val_mae"}, ValueError, "metric.*Pass validation_data"),
        ({"metric": "val_los", "validation_data": data()}, ValueError, "metric.*Did you mean 'val_loss'"),
        ({"callbacks": tg.EnergyBudget(max_kwh=1.0)}, ValueError, "callbacks.*Set max_kwh"),
        ({"trainings": {"a": tg.TrainingConfig(), "b": tg.TrainingConfig(resize=0.5)}}, ValueError, "one image input"),
    ],
    ids=range(8),
)
def test_bad_arguments_are_named_before_any_training(options, error, message, monkeypatch):
    arguments = {"trainings": {"a": tg.TrainingConfig()}, "metric": "loss", "rounds": 1, **options}
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("a training was begun"))
    with pytest.raises(error, match=message):
        tg.compare_training(network(), data(), arguments.pop("trainings"), **arguments)
