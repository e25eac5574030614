"""What one verb won is still in the int8 file after the next: zeros, clusters, and equal outputs."""

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tests.quantized import varied


def _fit(model: keras.Model, name: str, x, y) -> keras.Model:
    model.compile(keras.optimizers.Adam(1e-3), zoo.loss(name))
    model.fit(x, y, batch_size=16, verbose=0, callbacks=[tg.UpdateCompression()])
    return model


def _pruned(model: keras.Model) -> keras.Model:
    return tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0, frequency=2)))


def _clustered(model: keras.Model, fold: bool) -> keras.Model:
    return tg.cluster(model, tg.ClusterConfig(number_of_clusters=8, fold_batch_norm=fold, frequency=2))


LONGER = zoo.slow("functional", "concat", "nested")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sequential", "residual", *LONGER])
@pytest.mark.parametrize("stripped", [False, True])
def test_zeros_and_clusters_are_counted_in_the_integers(name, stripped):
    keras.utils.set_random_seed(0)
    x, y = zoo.sample(name, 64), zoo.targets(name, 64)
    model = _fit(_pruned(zoo.ZOO[name]()), name, x, y)
    if stripped:
        model = tg.strip(model)
    model = _fit(_clustered(model, fold=stripped), name, x, y)  # nothing can be folded into a chain
    model = _fit(tg.quantize(model, tg.QuantizeConfig(calibration_data=x)), name, x, y)
    lite = tg.convert(model, tg.ConvertConfig(quantization="int8"))

    assert not lite.float_operators
    for weight in lite.weights.values():
        assert weight.zeros >= weight.values.size // 2
        assert len(np.unique(weight.values)) <= 8
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0)).max() <= 1.01 / 256


KERNELS = {
    "conv": ((8, 8, 4), lambda: keras.layers.Conv2D(6, 3, strides=2, padding="same", name="kernel")),
    "conv without bias": ((8, 8, 4), lambda: keras.layers.Conv2D(6, 3, use_bias=False, name="kernel")),
    "dilated": ((9, 9, 4), lambda: keras.layers.Conv2D(6, 3, dilation_rate=2, name="kernel")),
}


@pytest.mark.parametrize("kind", KERNELS)
def test_clusters_are_counted_in_the_integers_of_a_kernel_that_a_batch_norm_is_merged_into(kind):
    shape, layer = KERNELS[kind]
    x = np.random.default_rng(0).normal(size=(64, *shape)).astype("float32")
    stack = [layer(), keras.layers.BatchNormalization(name="norm"), keras.layers.ReLU(), keras.layers.Flatten()]
    model = varied(keras.Sequential([keras.Input(shape), *stack, keras.layers.Dense(3, name="out")]))
    model.get_layer("norm").gamma.assign(np.abs(model.get_layer("norm").gamma) + 0.1)
    quantized = tg.quantize(_clustered(model, fold=False), tg.QuantizeConfig(calibration_data=x))
    lite = tg.convert(quantized, tg.ConvertConfig(quantization="int8"))
    assert not lite.float_operators and len(lite.weights) == 2
    assert all(len(np.unique(weight.values)) <= 8 for weight in lite.weights.values())
    error = np.abs(lite.predict(x) - quantized.predict(x, verbose=0)) / lite.output_scales["out"]
    assert error.mean() <= 0.05


@pytest.mark.parametrize(
    "layer, told", [(keras.layers.Conv1D(6, 3, name="kernel"), True), (keras.layers.Conv2D(6, 3, name="kernel"), False)]
)
def test_the_report_says_where_a_merged_batch_norm_makes_more_integers(layer, told):
    shape = (8, 8, 4) if isinstance(layer, keras.layers.Conv2D) else (12, 4)
    stack = [layer, keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input(shape), *stack, keras.layers.Dense(3, name="out")])
    x = np.random.default_rng(0).normal(size=(16, *shape)).astype("float32")
    quantized = tg.quantize(_clustered(model, fold=False), tg.QuantizeConfig(calibration_data=x))
    assert ("more integers than it has clusters" in str(tg.summary(quantized))) == told


def test_a_large_kernel_keeps_its_values_in_the_file_too():
    """More than 8 KiB, from which on the converter does not fold a look-up."""
    conv = keras.layers.Conv2D(24, 3, activation="relu", name="conv")
    model = keras.Sequential([keras.Input((8, 8, 16)), conv, keras.layers.Flatten(), keras.layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 16)).astype("float32")
    quantized = tg.quantize(_clustered(model, fold=False), tg.QuantizeConfig(calibration_data=x))
    lite = tg.convert(quantized, tg.ConvertConfig(quantization="int8"))
    assert not lite.float_operators and max(len(np.unique(w.values)) for w in lite.weights.values()) <= 8
    assert np.abs(lite.predict(x) - quantized.predict(x, verbose=0)).max() <= 1.01 * lite.output_scales["dense"]


def test_the_order_of_the_verbs_does_not_matter_for_what_is_kept():
    name = "functional"
    keras.utils.set_random_seed(0)
    x, y = zoo.sample(name, 64), zoo.targets(name, 64)
    model = tg.quantize(zoo.ZOO[name](), tg.QuantizeConfig(calibration_data=x))
    model = _fit(_pruned(model), name, x, y)
    lite = tg.convert(model, tg.ConvertConfig(quantization="int8"))
    assert not lite.float_operators
    assert all(weight.zeros >= weight.values.size // 2 for weight in lite.weights.values())
    assert [status.done for status in tg.summary(model).weights] == [("Mask", "FakeQuant")] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["functional", "sequential"])
def test_a_model_that_was_clustered_and_stripped_keeps_its_values_if_asked_to(name):
    keras.utils.set_random_seed(0)
    x, y = zoo.sample(name, 64), zoo.targets(name, 64)
    plain = tg.strip(_fit(_clustered(_fit(_pruned(zoo.ZOO[name]()), name, x, y), fold=False), name, x, y))
    zeros = {layer.name: layer.kernel.numpy() == 0 for layer in plain.layers if hasattr(layer, "kernel")}
    kept = tg.quantize(plain, tg.QuantizeConfig(calibration_data=x, preserve_clusters=True))
    assert all(status.done == ("Codebook", "FakeQuant") for status in tg.summary(kept).weights)
    kept = _fit(kept, name, x, y)
    lite = tg.convert(kept, tg.ConvertConfig(quantization="int8"))
    assert all(len(np.unique(weight.values)) <= 8 for weight in lite.weights.values())
    for path, was in zeros.items():
        assert was.mean() >= 0.5 and (tg.strip(kept).get_layer(path).kernel.numpy()[was] == 0).all()
    lost = _fit(tg.quantize(plain, tg.QuantizeConfig(calibration_data=x)), name, x, y)
    file = tg.convert(lost, tg.ConvertConfig(quantization="int8"))
    assert max(len(np.unique(weight.values)) for weight in file.weights.values()) > 8


def test_a_model_that_was_never_clustered_has_no_values_to_keep():
    config = tg.QuantizeConfig(calibration_data=zoo.sample("functional"), preserve_clusters=True)
    with pytest.raises(ValueError, match="no kernel of at most 256 values.*tg.cluster"):
        tg.quantize(zoo.functional(), config)
