"""Wanda and SparseGPT on whole models: what is pruned, what changes, what stays in force."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.transforms.one_shot.prune_at_once import MEASURES
from tfgreen.transforms.one_shot.sparsegpt import sparsegpt
from tfgreen.transforms.one_shot.weight_update import update_kept

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def correlated(rows: int, width: int) -> np.ndarray:
    return normal(rows, 4) @ normal(4, width) + 0.3 * normal(rows, width)


def two_layers() -> keras.Model:
    stack = [layers.Dense(16, activation="relu", name="first"), layers.Dense(8, name="second")]
    return keras.Sequential([keras.Input((12,)), *stack])


def zeros(model: keras.Model) -> dict[str, float]:
    return {f"{s.layer}/{s.weight}": s.sparsity for s in tg.summary(model).weights if s.done}


def test_wanda_keeps_of_each_output_what_a_float64_reference_keeps_and_later_layers_see_pruned_ones():
    model, x = two_layers(), normal(50, 12) * np.linspace(0.1, 5, 12, dtype="float32")
    pruned = tg.prune(model, criterion="wanda", calibration_data=x)
    seen = x.astype("float64")
    for name in ("first", "second"):
        kernel, bias = (array.astype("float64") for array in model.get_layer(name).get_weights())
        scores = np.abs(kernel) * np.sqrt((seen**2).sum(0))[:, None]
        kept = scores > np.sort(scores, axis=0)[len(kernel) // 2 - 1]
        np.testing.assert_array_equal(pruned.get_layer(name).chains[0].transforms[0].mask, kept)
        np.testing.assert_array_equal(pruned.get_layer(name).layer.kernel, np.where(kept, kernel, 0).astype("float32"))
        seen = np.maximum(seen @ np.where(kept, kernel, 0) + bias, 0)


def test_sparsegpt_is_the_functions_of_arrays_layer_by_layer():
    model, x = two_layers(), correlated(60, 12)
    plain = tg.strip(tg.prune(model, criterion="sparsegpt", calibration_data=x))
    seen = x.astype("float64")
    for name in ("first", "second"):
        kernel, bias = model.get_layer(name).get_weights()
        expected, kept = sparsegpt(kernel, seen.T @ seen, 0.5)
        expected = update_kept(kernel, expected, kept, seen.T @ seen)
        np.testing.assert_allclose(plain.get_layer(name).kernel, expected, rtol=1e-3, atol=1e-4)
        seen = np.maximum(seen @ expected + bias, 0)


@pytest.mark.parametrize("criterion", MEASURES)
@pytest.mark.parametrize("name", zoo.one_in(2, ["attention", "residual", "subclassed", "nested"]))
def test_outputs_change_less_than_by_magnitude_and_zeros_stay_through_training_and_saving(criterion, name, tmp_path):
    model = zoo.ZOO[name]()
    x = zoo.sample(name, 64)
    only = [s.layer for s in tg.summary(tg.prune(model, criterion=criterion, calibration_data=x)).weights if not s.done]
    dense = {layer: None for layer in only if layer in {s.layer for s in tg.summary(tg.prune(model)).weights if s.done}}
    by_magnitude = tg.prune(model, layers=dense)
    tg.UpdateCompression(by_magnitude)
    pruned = tg.prune(model, criterion=criterion, calibration_data=x)
    before = zeros(pruned)
    if criterion == "sparsegpt":
        ours, theirs = (np.square(m.predict(x, verbose=0) - model.predict(x, verbose=0)).mean()
                        for m in (pruned, by_magnitude))
        assert ours < theirs
    pruned.compile("adam", zoo.loss(name))
    pruned.fit(x, zoo.targets(name, 64), verbose=0)  # without a callback
    assert zeros(pruned) == before and all(abs(share - 0.5) < 0.1 for share in before.values())
    pruned.save(tmp_path / "m.keras")
    assert zeros(keras.models.load_model(tmp_path / "m.keras")) == before
    plain = tg.strip(pruned)
    np.testing.assert_allclose(plain.predict(x, verbose=0), pruned.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("criterion", MEASURES)
def test_m_by_n_lies_along_the_input_channels_of_every_kind_of_kernel(criterion):
    inputs = keras.Input((6, 6, 8))
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    x = layers.Reshape((16, 8))(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = keras.Model(inputs, layers.Dense(4, name="head")(x))
    pruned = tg.strip(tg.prune(model, criterion=criterion, m_by_n=(2, 4), calibration_data=normal(20, 6, 6, 8)))
    attention = pruned.get_layer("attention")
    kernels = {
        "conv": (pruned.get_layer("conv").kernel, 2),
        "query": (attention.query_dense.kernel, 0),
        "output": (attention.output_dense.kernel, 1),
        "head": (pruned.get_layer("head").kernel, 0),
    }
    for kernel, axis in kernels.values():
        moved = np.moveaxis(np.asarray(kernel), axis, -1)
        assert ((moved.reshape(-1, 4) == 0).sum(-1) == 2).all()


@pytest.mark.parametrize("criterion", MEASURES)
def test_an_adapter_is_pruned_together_with_its_weight(criterion):
    model, x = two_layers(), correlated(40, 12)
    for layer in model.layers:
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(normal(*layer.lora_kernel_b.shape))
    expected = two_layers()
    for layer, plain in zip(model.layers, expected.layers):
        plain.set_weights([np.asarray(layer.kernel), np.asarray(layer.bias)])
    found, wanted = (tg.strip(tg.prune(m, criterion=criterion, calibration_data=x)) for m in (model, expected))
    for layer, plain in zip(found.layers, wanted.layers):
        np.testing.assert_allclose(layer.kernel, plain.kernel, rtol=1e-3, atol=1e-4)
        assert (np.asarray(layer.kernel) == 0).mean() == 0.5


def test_layers_with_settings_of_their_own_are_pruned_by_these():
    x = normal(40, 12)
    own = tg.PruneConfig(criterion="sparsegpt", schedule=tg.ConstantSparsity(0.75, 0), calibration_data=x[:20])
    pruned = tg.prune(two_layers(), criterion="wanda", calibration_data=x, layers={"second": own})
    assert zeros(pruned) == {"first/kernel": 0.5, "second/kernel": 0.75}


def test_what_a_criterion_cannot_measure_stays_dense_and_is_named():
    model, x = zoo.lstm(), zoo.sample("lstm", 20)
    pruned = tg.prune(model, criterion="sparsegpt", calibration_data=x)
    reasons = {s.layer: s.reason for s in tg.summary(pruned).weights if not s.done}
    assert any("criterion='sparsegpt' knows no inputs" in reason for reason in reasons.values()) and zeros(pruned)
    table = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(5, 4)])
    with pytest.raises(ValueError, match="no weight that can be pruned"):
        tg.prune(table, criterion="wanda", calibration_data=np.zeros((4, 3), "int32"))


def test_a_clustered_or_quantized_model_keeps_its_chains():
    model, x = two_layers(), normal(40, 12)
    quantized = tg.quantize(model, calibration_data=x)
    pruned = tg.prune(quantized, criterion="wanda", calibration_data=x)
    assert [type(t).__name__ for t in pruned.get_layer("first").chains[0].transforms] == ["Mask", "FakeQuant"]
    assert set(zeros(pruned).values()) == {0.5}


@keras.saving.register_keras_serializable(package="tests_one_shot")
class Task(keras.Model):
    """A graph with a constructor and named inputs of its own, as KerasHub's tasks have."""

    def __init__(self, width: int = 8, **kwargs: object) -> None:
        inputs = {name: keras.Input((4,), name=name) for name in ("a", "b")}
        x = keras.layers.Dense(width, "relu")(keras.layers.add([*inputs.values()]))
        super().__init__(inputs, keras.layers.Dense(3)(x), **kwargs)
        self.width = width

    def get_config(self) -> dict[str, object]:
        return {"width": self.width}


@pytest.mark.parametrize("criterion", ["wanda", "sparsegpt"])
def test_a_graph_with_a_constructor_of_its_own_is_pruned_too(criterion):
    keras.utils.set_random_seed(0)
    model, rng = Task(), np.random.default_rng(0)
    x = {name: rng.normal(size=(32, 4)).astype("float32") for name in ("a", "b")}
    pruned = tg.strip(tg.prune(model, criterion=criterion, calibration_data=x))
    for weight in pruned.weights:
        if len(weight.shape) > 1:
            assert np.mean(weight.numpy() == 0) == 0.5
