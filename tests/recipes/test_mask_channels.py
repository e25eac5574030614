"""mask_channels and remove_masked_channels: soft first, and in the end what prune_channels makes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.surgery.cases import outputs, randomized

AT_ONCE = tg.ConstantSparsity(0.5, begin_step=0, frequency=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "nested", "multi_io", "subclassed", "lstm", "attention"])
def test_what_is_masked_and_removed_is_what_is_pruned(name):
    model, x = randomized(zoo.ZOO[name]()), zoo.sample(name, 8)
    masked = tg.mask_channels(model, AT_ONCE, round_to=1)
    tg.UpdateCompression(masked)  # which computes the masks of step 0
    slim = tg.remove_masked_channels(masked)
    pruned = tg.prune_channels(model, ratio=0.5, round_to=1)
    assert slim.count_params() == pruned.count_params() < model.count_params()
    for one, other, soft in zip(outputs(slim, x), outputs(pruned, x), outputs(masked, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one, soft, rtol=1e-4, atol=1e-5 * np.abs(soft).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "lstm", "subclassed"])
def test_channels_go_one_after_the_other_in_training(name, tmp_path):
    model, x, y = zoo.ZOO[name](), zoo.sample(name, 32), zoo.targets(name, 32)
    schedule = tg.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=6, frequency=1)
    masked = tg.mask_channels(model, schedule, round_to=1, criterion="random")
    masked.compile("adam", zoo.loss(name))
    history = masked.fit(x, y, batch_size=8, epochs=2, callbacks=[tg.UpdateCompression()], verbose=0).history
    assert history["sparsity"][0] <= history["sparsity"][1] and history["sparsity"][1] > 0
    masked.save(tmp_path / "masked.keras")
    slim = tg.remove_masked_channels(tg.load_model(tmp_path / "masked.keras"))
    for one, soft in zip(outputs(slim, x), outputs(masked, x), strict=True):
        np.testing.assert_allclose(one, soft, atol=1e-5)
    assert slim.count_params() == tg.prune_channels(model, ratio=0.5, round_to=1, criterion="random").count_params()


class Weighted(keras.Model):
    """A model with a weight of its own beside its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = layers.Dense(16, "relu"), layers.Dense(2)
        self.scale = self.add_weight(shape=(16,), initializer="ones", name="scale")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return self.last(self.scale * self.first(x))


@pytest.mark.parametrize("criterion", ["l2", "activation"])
def test_weights_of_the_model_itself_shrink_too(criterion):
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    model = Weighted()
    model(x)
    options = {"criterion": criterion, "calibration_data": x, "reconstruct": "none"}
    slim = tg.prune_channels(model, ratio=0.5, **options)
    assert slim.scale.shape == (8,) and slim.first.units == 8
    masked = tg.mask_channels(model, tg.ConstantSparsity(0.5, begin_step=0, frequency=1), **options)
    tg.UpdateCompression(masked).step()
    rest = tg.remove_masked_channels(masked)
    assert rest.scale.shape == (8,)
    np.testing.assert_allclose(rest(x), slim(x), rtol=0, atol=1e-6)


def test_a_target_is_met_at_the_end_of_any_schedule():
    stack = [layers.Dense(64, "relu"), layers.Dense(64, "relu"), layers.Dense(4)]
    model = keras.Sequential([keras.Input((6,)), *stack])
    masked = tg.mask_channels(model, tg.ConstantSparsity(0.9, begin_step=0), target_macs=0.5, round_to=1)
    tg.UpdateCompression(masked)
    assert 0.48 < tg.profile(tg.remove_masked_channels(masked)).macs / tg.profile(model).macs <= 0.5


def test_what_cannot_be_done_is_said():
    with pytest.raises(ValueError, match="schedule: expected one whose final sparsity is known"):
        tg.mask_channels(zoo.functional(), lambda step: 0.5)
    masked = tg.mask_channels(zoo.functional(), AT_ONCE)
    for verb in (tg.prune_channels, lambda model: tg.mask_channels(model, AT_ONCE)):
        with pytest.raises(ValueError, match=r"is compressed. Bake it first: tg.remove_masked_channels\(model\)"):
            verb(masked)
    with pytest.raises(ValueError, match=r"is pruned already. Bake it first with tg.remove_masked_channels\(model\)"):
        tg.prune(masked)
    with pytest.raises(TypeError, match="'criterium' is no field"):
        tg.mask_channels(zoo.functional(), AT_ONCE, criterium="l1")
    with pytest.raises(ValueError, match="no channel is zero in all weights.*tg.mask_channels"):
        tg.remove_masked_channels(randomized(zoo.functional()))
    with pytest.raises(TypeError, match="model: expected a keras.Model"):
        tg.remove_masked_channels("model.keras")
