"""Training a quantized model: its ranges, saving and resuming, ways to train, and pruning and clustering beside it."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tests import zoo
from tests.quantized import error_in_scales, fitted, in_int8, quantized, ranges_of, varied
from tests.replicas import on_two_replicas


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["moving_average", pytest.param("learned", marks=pytest.mark.slow)])
def test_ranges_and_batch_norm_statistics_move_until_they_are_frozen(ranges, tmp_path):
    model = quantized(varied(zoo.residual()), zoo.sample("residual", 64), ranges=ranges, freeze_after=4)
    norm = model.get_layer("batch_normalization").layer

    def state():
        return [*ranges_of(model).values(), *norm.moving_mean.numpy(), *norm.moving_variance.numpy()]

    start = state()
    fitted(model, "residual")  # four batches
    frozen, gamma = state(), norm.gamma.numpy()
    assert all(a != b for a, b in zip(start[-8:], frozen[-8:])) and frozen[:-8] != start[:-8]
    model.save(tmp_path / "m.keras")
    fitted(model, "residual")
    assert state() == frozen and (norm.gamma.numpy() != gamma).any()
    loaded = fitted(keras.models.load_model(tmp_path / "m.keras"), "residual")
    assert ranges_of(loaded) == ranges_of(model)
    assert error_in_scales(loaded, in_int8(loaded), zoo.sample("residual", 32)) <= 0.05


@pytest.mark.slow
def test_frozen_ranges_need_the_callback_that_counts_and_say_so():
    model = quantized(zoo.residual(), zoo.sample("residual"), freeze_after=4)
    model.compile("adam", zoo.loss("residual"))
    with pytest.warns(UserWarning, match="tg.UpdateCompression"):
        model.fit(zoo.sample("residual"), zoo.targets("residual"), verbose=0)


@pytest.mark.slow
def test_learned_ranges_get_gradients_and_fixed_ones_stay():
    x = zoo.sample("residual", 32)
    learned = fitted(quantized(zoo.residual(), x, ranges="learned"), "residual")
    widths = [float(v) for v in learned.trainable_variables if v.name == "width"]
    assert len(widths) == 7 and all(width != 1.0 for width in widths)
    fixed = quantized(zoo.residual(), x, ranges="fixed")
    before = ranges_of(fixed)
    assert ranges_of(fitted(fixed, "residual")) == before
    assert len(set(before.values())) > 4


@keras.saving.register_keras_serializable(package="tests")
class LastBatch(tg.ActivationRange):
    """A range of the user's own: that of the last batch."""

    def __init__(self, margin: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.margin = margin

    def follow(self, x):
        self.lower.assign(self.margin * ops.minimum(ops.min(x), 0.0))
        self.upper.assign(self.margin * ops.maximum(ops.max(x), 0.0))

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}


def test_a_range_of_the_users_own(tmp_path):
    x = zoo.sample("functional", 32)
    model = fitted(quantized(zoo.functional(), x, ranges=LastBatch(margin=1.5)), "functional")
    lower, upper = ranges_of(model)["hidden/input_0"]
    np.testing.assert_allclose((lower, upper), (1.5 * x[-8:].min(), 1.5 * x[-8:].max()), rtol=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert ranges_of(loaded) == ranges_of(model)
    assert loaded.get_layer("hidden").activations.kind.margin == 1.5


@pytest.mark.slow
def test_saved_and_continued_in_a_new_process_equals_the_uninterrupted_run(tmp_path):
    def start():
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(0)
        model = quantized(varied(zoo.residual()), zoo.sample("residual", 64), freeze_after=6)
        return model

    whole = fitted(start(), "residual", epochs=2)
    half = fitted(start(), "residual")
    half.save(tmp_path / "m.keras")
    np.savez(tmp_path / "data.npz", x=zoo.sample("residual", 32), y=zoo.targets("residual", 32))
    code = f"""
import keras, numpy as np, tfgreen as tg
data = np.load(r"{tmp_path / 'data.npz'}")
model = keras.models.load_model(r"{tmp_path / 'm.keras'}")
np.save(r"{tmp_path / 'before.npy'}", model.predict(data["x"], verbose=0))
options = dict(batch_size=8, shuffle=False, verbose=0, callbacks=[tg.UpdateCompression()])
model.fit(data["x"], data["y"], **options)
model.save(r"{tmp_path / 'after.keras'}")
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "before.npy"), half.predict(zoo.sample("residual", 32), verbose=0))
    after = keras.models.load_model(tmp_path / "after.keras")
    for one, other in zip(whole.weights, after.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", pytest.param("separable", marks=pytest.mark.slow), "attention"])
def test_jit_compiled_training_gives_the_same_weights(name):
    def trained(**options):
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(0)
        return fitted(quantized(varied(zoo.ZOO[name]()), zoo.sample(name, 32), freeze_after=2), name, **options)

    for one, other in zip(trained().weights, trained(jit_compile=True).weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-2)


@pytest.mark.slow
def test_mixed_precision_trains_and_converts():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, dtype="mixed_float16")(inputs)
    x = layers.ReLU(dtype="mixed_float16")(layers.BatchNormalization(dtype="mixed_float16")(x))
    x = layers.BatchNormalization(dtype="mixed_float16")(layers.Flatten(dtype="mixed_float16")(x))
    outputs = layers.Dense(4, "softmax", dtype="float32")(layers.Dense(5, "silu", dtype="mixed_float16")(x))
    model = fitted(quantized(varied(keras.Model(inputs, outputs)), zoo.sample("residual", 32)), "residual")
    assert model.get_layer(index=1).layer.compute_dtype == "float16"
    lite = in_int8(model)
    assert not lite.float_operators and error_in_scales(model, lite, zoo.sample("residual", 32)) <= 2.0


@pytest.mark.slow
def test_under_mirrored_strategy_both_replicas_move_the_ranges_together():
    on_two_replicas(
        """
rng = np.random.default_rng(0)
x, y = rng.normal(size=(32, 8, 8, 3)).astype("float32"), rng.normal(size=(32, 4)).astype("float32")
for ranges in ("moving_average", "learned"):
    with strategy.scope():
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv"),
                                  keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.Flatten(),
                                  keras.layers.Dense(4, name="out")])
        config = tg.QuantizeConfig(calibration_data=x, ranges=ranges, freeze_after=6)
        quantized = tg.quantize(model, config)
        quantized.compile("adam", "mse")
    out = quantized.get_layer("out").activations.output_range
    before = float(out.upper.value.values[0])
    quantized.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[tg.UpdateCompression()])
    copies = [float(value) for value in out.upper.value.values]
    assert copies[0] == copies[1] != before, (copies, before)
    assert int(quantized.get_layer("out").activations.step.value.values[0]) == 12
    assert np.isfinite(quantized.evaluate(x, y, verbose=0))
"""
    )


@pytest.mark.slow
def test_all_may_happen_in_the_scope_of_a_strategy():
    on_two_replicas(
        """
x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
with strategy.scope():
    for ranges in ("moving_average", "learned", "fixed"):
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
        pruned = tg.prune(model, schedule=tg.ConstantSparsity(0.5, begin_step=0))
        quantized = tg.quantize(pruned, calibration_data=x, ranges=ranges, freeze_after=3)
        quantized.compile("adam", "mse")
        quantized.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[tg.UpdateCompression()])
        lite = tg.convert(quantized, quantization="int8")
        assert tg.verify(quantized, lite, x).passed and str(tg.summary(quantized)) and tg.strip(quantized).built
"""
    )


def zeros_in(lite: tg.LiteRTModel) -> list[float]:
    """Share of zeros in each kernel of the file, in integers."""
    return sorted(weight.zeros / weight.values.size for weight in lite.weights.values())


def prune(model: keras.Model, sparsity: float = 0.75) -> keras.Model:
    return tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(sparsity, begin_step=0, frequency=1)))


@pytest.mark.slow
def test_pruned_and_quantized_in_either_order_keeps_the_zeros_in_the_file():
    x = zoo.sample("residual", 64)
    first = fitted(quantized(fitted(prune(varied(zoo.residual())), "residual"), x), "residual")
    then = fitted(prune(quantized(varied(zoo.residual()), x)), "residual")
    for model in (first, then):
        assert all(s.done == ("Mask", "FakeQuant") for s in tg.summary(model).weights if s.weight)
        assert min(zeros_in(in_int8(model))) >= 0.75
        assert error_in_scales(model, in_int8(model), x) <= 0.1


@pytest.mark.slow
def test_a_pruned_and_stripped_model_keeps_its_zeros_if_asked_to(tmp_path):
    x = zoo.sample("residual", 64)
    plain = tg.strip(fitted(prune(varied(zoo.residual())), "residual"))
    model = fitted(quantized(plain, x, preserve_sparsity=True), "residual")
    model.save(tmp_path / "m.keras")
    model = fitted(keras.models.load_model(tmp_path / "m.keras"), "residual")
    before, after = plain.get_layer("conv2d_1").kernel.numpy(), tg.strip(model).get_layer("conv2d_1").kernel.numpy()
    assert (after[before == 0] == 0).all() and (before == 0).mean() == 0.75 and (after != before).any()
    assert min(zeros_in(in_int8(model))) >= 0.75
    lost = fitted(quantized(plain, x), "residual")
    assert (tg.strip(lost).get_layer("conv2d_1").kernel.numpy()[before == 0] != 0).any()


def test_zeros_are_held_without_the_callback_and_beside_its_summaries(tmp_path):
    plain = tg.strip(fitted(prune(zoo.functional()), "functional"))
    model = quantized(plain, zoo.sample("functional"), preserve_sparsity=True)
    model.compile("adam", zoo.loss("functional"))
    model.fit(zoo.sample("functional"), zoo.targets("functional"), verbose=0)
    assert (tg.strip(model).get_layer("hidden").kernel.numpy() == 0).mean() >= 0.75
    callbacks = [tg.UpdateCompression(), tg.CompressionSummaries(tmp_path)]
    model.fit(zoo.sample("functional"), zoo.targets("functional"), verbose=0, callbacks=callbacks)


def test_pruned_clustered_and_quantized_keeps_zeros_and_codebook_in_the_file():
    x = zoo.sample("functional", 64)
    model = tg.cluster(fitted(prune(zoo.functional(), 0.5), "functional"), tg.ClusterConfig(number_of_clusters=8))
    model = fitted(quantized(model, x), "functional")
    assert all(s.done == ("Mask", "Codebook", "FakeQuant") for s in tg.summary(model).weights)
    lite = in_int8(model)
    assert min(zeros_in(lite)) >= 0.5
    for weight in lite.weights.values():
        assert max(len(np.unique(channel)) for channel in weight.values) <= 8
    assert error_in_scales(model, lite, x) <= 0.05
