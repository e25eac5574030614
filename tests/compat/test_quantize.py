"""quantize_model and quantize_apply, as TFMOT's code calls them: without calibration data, and as far as the file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
import tfgreen.compat as tfmot
from tfgreen.compat.algorithm import SelfAssigning
from tfgreen.transforms.fake_quant import FakeQuant

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
qk, combine = tfmot.quantization.keras, tfmot.experimental.combine
q = qk.quantizers
X = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, 64)


def net() -> keras.Model:
    return keras.Sequential([
        keras.Input((8, 8, 1)), layers.Conv2D(6, 3, name="conv"), layers.ReLU(), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dense(4, name="head"),
    ])


def fitted(model: keras.Model) -> keras.Model:
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, Y, batch_size=16, verbose=0)
    return model


def check_file(model: keras.Model) -> tg.LiteRTModel:
    lite = tg.convert(model, quantization="int8")
    scale = np.ptp(model.predict(X, verbose=0)) / 255
    assert np.abs(lite.predict(X) - model.predict(X, verbose=0)).max() <= 2 * scale
    return lite


def chain(model: keras.Model, name: str, weight: str = "kernel") -> list:
    return next(c.transforms for c in model.get_layer(name).chains if c.weight == weight)


def test_a_model_is_trained_quantized_saved_and_converted(tmp_path):
    model = net()
    quantized = qk.quantize_model(model)
    np.testing.assert_allclose(quantized.predict(X, verbose=0), model.predict(X, verbose=0), atol=0.1)
    with pytest.raises(tg.ConversionError, match="^model .sequential.*has not seen a training batch"):
        tg.convert(quantized, quantization="int8")
    fitted(quantized)
    assert isinstance(quantized.get_layer("conv"), qk.QuantizeWrapper)
    assert isinstance(chain(quantized, "conv")[0], FakeQuant)  # before a ReLU too
    assert check_file(quantized).operators["CONV_2D"] == 1
    quantized.save(tmp_path / "model.keras")
    with qk.quantize_scope():
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), quantized.predict(X, verbose=0))


def test_with_calibration_data_it_converts_without_training():
    check_file(qk.quantize_model(net(), calibration_data=X))


def test_only_marked_layers_are_quantized():
    def mark(layer: keras.Layer) -> keras.Layer:
        return qk.quantize_annotate_layer(layer) if isinstance(layer, layers.Dense) else layer

    quantized = fitted(qk.quantize_apply(keras.models.clone_model(net(), clone_function=mark)))
    assert not getattr(quantized.get_layer("conv"), "chains", []) and chain(quantized, "head")
    assert "CONV_2D" in tg.convert(quantized, quantization="int8").notes[0]
    with pytest.raises(ValueError, match="must contain at least one layer which have been annotated"):
        qk.quantize_apply(net())


@keras.saving.register_keras_serializable(package="test_quantize")
class Clip(q.Quantizer):
    """As in TFMOT's guide."""

    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        return keras.ops.clip(inputs, -0.02, 0.02)

    def get_config(self):
        return {}


@keras.saving.register_keras_serializable(package="test_quantize")
class Mine(qk.QuantizeConfig):
    """4 bits for the kernel, a quantizer of its own for the bias and the output."""

    def get_weights_and_quantizers(self, layer):
        four = q.LastValueQuantizer(num_bits=4, symmetric=True, narrow_range=True, per_axis=False)
        return [(layer.kernel, four), (layer.bias, Clip())]

    def get_activations_and_quantizers(self, layer):
        return [(layer.activation, Clip())]

    def set_quantize_weights(self, layer, quantize_weights):
        layer.kernel = quantize_weights[0]

    def set_quantize_activations(self, layer, quantize_activations):
        layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer):
        return []

    def get_config(self):
        return {}


@pytest.mark.parametrize("by", ["layer", "registry"])
def test_a_config_of_the_users_own_acts(by, tmp_path):
    class Registry(qk.QuantizeRegistry):
        def get_quantize_config(self, layer):
            return Mine()

        def supports(self, layer):
            return layer.name == "head"

    class Scheme(qk.QuantizeScheme):
        def get_layout_transformer(self):
            return None

        def get_quantize_registry(self):
            return Registry()

    model = net()
    model.get_layer("head").bias.assign([-1.0, -0.01, 0.01, 1.0])
    if by == "layer":
        def mark(layer: keras.Layer) -> keras.Layer:
            return qk.quantize_annotate_layer(layer, Mine() if layer.name == "head" else None)

        quantized = qk.quantize_apply(keras.models.clone_model(model, clone_function=mark))
    else:
        quantized = qk.quantize_apply(qk.quantize_annotate_model(model), Scheme())
    weights = {w.chain.weight: np.asarray(w.effective()) for w in quantized.get_layer("head").chained}
    assert len(np.unique(weights["kernel"])) <= 15
    np.testing.assert_allclose(weights["bias"], [-0.02, -0.01, 0.01, 0.02])
    if by == "registry":
        return
    fitted(quantized)
    assert np.abs(quantized.predict(X, verbose=0)).max() == pytest.approx(0.02, abs=1e-3)
    lite = check_file(quantized)
    assert np.abs(lite.predict(X)).max() == pytest.approx(0.02, abs=1e-3)
    quantized.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), quantized.predict(X, verbose=0))


class WithoutOutput(Mine):
    """As in TFMOT's guide: skip quantizing the activation."""

    def get_weights_and_quantizers(self, layer):
        return [(layer.kernel, q.LastValueQuantizer(8, True, True, False))]

    def get_activations_and_quantizers(self, layer):
        return []


class NoOp(WithoutOutput):
    def get_weights_and_quantizers(self, layer):
        return []


def marked(config: qk.QuantizeConfig, model: keras.Model) -> keras.Model:
    def mark(layer: keras.Layer) -> keras.Layer:
        return qk.quantize_annotate_layer(layer, config if layer.name == "head" else None)

    return qk.quantize_apply(keras.models.clone_model(model, clone_function=mark))


def test_an_output_without_quantizer_is_rounded_by_the_file_alone(tmp_path):
    quantized = fitted(marked(keras.saving.register_keras_serializable("test_quantize")(WithoutOutput)(), net()))
    outputs = quantized.predict(X, verbose=0)
    assert len(np.unique(outputs)) > 240 > len(np.unique(fitted(qk.quantize_model(net())).predict(X, verbose=0)))
    lite = check_file(quantized)
    assert lite.operators["FULLY_CONNECTED"] == 1 and len(np.unique(lite.predict(X))) < 240
    quantized.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras").predict(X, verbose=0), outputs)


def test_a_layer_whose_config_quantizes_nothing_stays_float():
    quantized = fitted(marked(NoOp(), net()))
    assert not getattr(quantized.get_layer("head"), "chains", [])
    lite = check_file(quantized)
    assert "head" in " ".join(lite.notes) and lite.operators["FULLY_CONNECTED"] == 1


@pytest.mark.parametrize(
    ("method", "returned", "told"),
    [
        ("get_weights_and_quantizers", lambda layer: [("kernel", q.LastValueQuantizer(8, True, True, False))],
         r"'head' \(Dense\), get_weights_and_quantizers\(\): expected variables of it: \['kernel', 'bias'\]"),
        ("get_weights_and_quantizers", lambda layer: [(layer.kernel, "int8")], "instance of a Quantizer"),
        ("get_weights_and_quantizers", lambda layer: [(layer.kernel, q.LastValueQuantizer)], "instance of a Quantizer"),
        ("get_weights_and_quantizers", lambda layer: [layer.kernel], "pairs"),
        ("get_activations_and_quantizers", lambda layer: [layer.activation], "pairs"),
        ("get_output_quantizers", lambda layer: ["int8"], "get_output_quantizers.*instances of a Quantizer"),
    ],
)  # fmt: skip
def test_what_a_config_cannot_mean_is_named(method, returned, told):
    config = type("Odd", (Mine,), {method: lambda self, layer: returned(layer)})()
    with pytest.raises(ValueError, match=told):
        marked(config, net())


def test_a_scheme_in_the_place_of_the_prefix_is_refused():
    with pytest.raises(TypeError, match="quantized_layer_name_prefix: expected a str.*quantize_apply"):
        qk.quantize_model(net(), qk.default_8bit.Default8BitQuantizeScheme())


def test_a_quantizer_that_litert_cannot_store_rounds_all_the_same():
    class Asymmetric(Mine):
        def get_weights_and_quantizers(self, layer):
            return [(layer.kernel, q.LastValueQuantizer(2, False, False, False))]

        def get_output_quantizers(self, layer):
            return [q.AllValuesQuantizer(8, False, False, False)]

    def mark(layer: keras.Layer) -> keras.Layer:
        return qk.quantize_annotate_layer(layer, Asymmetric() if layer.name == "head" else None)

    quantized = qk.quantize_apply(keras.models.clone_model(net(), clone_function=mark))
    (weight,) = quantized.get_layer("head").chained
    assert len(np.unique(weight.effective())) <= 4


def test_bits_and_granularity_of_the_schemes():
    annotated = qk.quantize_annotate_model(net())
    scheme = qk.experimental.default_n_bit.DefaultNBitQuantizeScheme(num_bits_weight=4, num_bits_activation=6)
    quantized = qk.quantize_apply(annotated, scheme)
    assert chain(quantized, "conv")[0].bits == 4
    assert quantized.get_layer("head").activations.output_range.bits == 6
    per_tensor = qk.quantize_apply(annotated, qk.default_8bit.Default8BitQuantizeScheme(disable_per_axis=True))
    assert [chain(model, "conv")[0].axes for model in (quantized, per_tensor)] == [(-1,), ()]


def test_zeros_and_clusters_are_kept_without_a_callback():
    model = net()
    kernel = model.get_layer("head").kernel
    values = np.random.default_rng(0).choice(np.array([0.0, 0.0, -0.3, 0.1, 0.2], "float32"), kernel.shape)
    kernel.assign(values)
    annotated = qk.quantize_annotate_model(model)
    pruned = fitted(qk.quantize_apply(annotated, qk.collab_opts.Default8BitPrunePreserveQuantizeScheme()))
    assert (keras.ops.convert_to_numpy(tg.strip(pruned).get_layer("head").kernel)[values == 0] == 0).all()

    clustered = fitted(qk.quantize_apply(annotated, combine.Default8BitClusterPreserveQuantizeScheme()))
    assert any(isinstance(item, SelfAssigning) for item in chain(clustered, "head"))
    found = keras.ops.convert_to_numpy(tg.strip(clustered).get_layer("head").kernel)
    assert len(np.unique(found)) <= 4 and (found[values == 0] == 0).all()
    stripped = combine.strip_clustering_cqat(clustered)
    np.testing.assert_array_equal(stripped.predict(X, verbose=0), clustered.predict(X, verbose=0))
    assert stripped is not clustered and isinstance(stripped.get_layer("head"), qk.QuantizeWrapperV2)
    kernel = keras.ops.convert_to_numpy(stripped.get_layer("head").layer.kernel)
    assert len(np.unique(kernel)) <= 4 and (kernel[values == 0] == 0).all()  # as TFMOT's tutorial counts them
    assert not any(isinstance(item, SelfAssigning) for item in chain(stripped, "head"))
    with pytest.warns(UserWarning, match="exported otherwise than by tfgreen"):  # as TFMOT's tutorial does
        assert tf.lite.TFLiteConverter.from_keras_model(stripped).convert()
    assert tg.verify(stripped, tg.convert(stripped, quantization="int8"), X).passed


def test_wrappers_are_known_and_not_made_by_hand():
    assert isinstance(qk.quantize_model(net()).get_layer("head"), qk.QuantizeWrapper)
    assert not isinstance(layers.Dense(3), qk.QuantizeWrapper)
    pruned = tfmot.sparsity.keras.prune_low_magnitude(net())
    clustered = tfmot.clustering.keras.cluster_weights(net(), 4)
    assert not any(isinstance(layer, qk.QuantizeWrapperV2) for layer in [*pruned.layers, *clustered.layers])
    with pytest.raises(ValueError, match="QuantizeWrapperV2 of TFMOT has no counterpart.*quantize_annotate_layer"):
        qk.QuantizeWrapperV2(layers.Dense(3), None)


def test_a_layout_transform_of_ones_own_and_what_is_no_scheme_are_refused():
    class Rewrites(qk.QuantizeLayoutTransform):
        def apply(self, model, layer_quantize_map):
            return model, layer_quantize_map

    class Scheme(qk.default_8bit.Default8BitQuantizeScheme):
        def get_layout_transformer(self):
            return Rewrites()

    annotated = qk.quantize_annotate_model(net())
    with pytest.raises(ValueError, match="Rewrites, a layout transform of one's own.*clone_model"):
        qk.quantize_apply(annotated, Scheme())
    with pytest.raises(TypeError, match="scheme: expected a QuantizeScheme, received str"):
        qk.quantize_apply(annotated, "x")
    with pytest.raises(TypeError, match="quantize_scope: expected dicts of name -> class, received str"):
        qk.quantize_scope("x")


def test_another_converter_is_warned_of():
    quantized = fitted(qk.quantize_model(net()))
    with pytest.warns(UserWarning, match=r"exported otherwise than by tfgreen.*tg.convert"):
        tf.lite.TFLiteConverter.from_keras_model(quantized).convert()


@pytest.mark.parametrize(
    ("use", "way"),
    [(qk.fix_input_output_range, r"input_range=\(0.0, 1.0\)"), (qk.remove_input_range, "keep_float")],
    ids=["fix", "remove"],
)
def test_what_has_no_counterpart_names_the_way(use, way):
    with pytest.raises(ValueError, match=way):
        use(net())
