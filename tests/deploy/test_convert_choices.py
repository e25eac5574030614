"""What a user chooses at conversion: layers in float, ranges, strictness, labels, where samples come from."""

from __future__ import annotations

import functools
import hashlib

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests import zoo
from tests.deploy import cases
from tests.zoo import sample
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.deploy.inspection.benchmark import benchmark
from tfgreen.deploy.litert_model import load_litert
from tfgreen.deploy.verify import verify
from tfgreen.errors import ConversionError, InvalidTypeError, InvalidValueError
from tfgreen.model.fingerprint import fingerprint
from tfgreen.structure import match
from tfgreen.techniques.cluster import ClusterConfig, cluster
from tfgreen.techniques.quantize import quantize
from tfgreen.techniques.quantize_config import QuantizeConfig
from tfgreen.techniques.weight_only.quantize_weights import quantize_weights
from tfgreen.version import __version__

SEQUENTIAL, BATCHNORM = (pytest.param(name, marks=pytest.mark.slow) for name in ("sequential", "batchnorm"))


def int8(x, **options):
    return ConvertConfig(**{"quantization": "int8", "calibration_data": x, **options})


@keras.saving.register_keras_serializable(package="convert_choices")
class Wave(layers.Layer):
    """LiteRT has no sine in integers."""

    def call(self, x):
        return keras.ops.sin(x)


def waves():
    inputs = keras.Input((6,))
    x = Wave(name="wave")(layers.Dense(4, name="first")(inputs))
    return keras.Model(inputs, layers.Dense(2, name="last")(x), name="waves")


DATA = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")


@pytest.mark.parametrize("name", ["sequential", "residual", "separable", "multi_io"])
def test_layers_kept_in_float_are_float_and_only_they(name):
    model, x = cases.model(name), sample(name, 64)
    layer = next(row.layers[-1] for row in cases.artifact(name, "float32").audit.operators if "CONV" in row.operator)
    kept = convert(model, int8(x, keep_float=(layer,)))
    assert layer in kept.audit.float_layers and kept.quantization == "int8"
    assert all(row.layers[-1:] == (layer,) or layer in row.layers for row in kept.audit.operators if row.in_float)


def stored_bits(lite) -> dict[str, int]:
    """Bits of the weights of each layer, by the layer that the operator reading them computes."""
    graph = lite.parsed.subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    return {
        row.layers[0]: lite.weights[names[index]].bits
        for row, operator in zip(lite.audit.operators, graph.operators)
        for index in operator.inputs
        if index >= 0 and names[index] in lite.weights
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [SEQUENTIAL, BATCHNORM, "functional", "residual", "separable", "subclassed"])
def test_int4_without_training_stores_4_bits_and_computes_as_the_rounded_model(name):
    model, x = cases.model(name), sample(name, 64)
    lite = convert(model, int8(x, quantization="int4"))
    assert not lite.float_operators and 4 in {weight.bits for weight in lite.weights.values()}
    wide = cases.artifact(name, "int8")
    assert sum(w.bits * w.values.size for w in lite.weights.values()) < sum(
        w.bits * w.values.size for w in wide.weights.values()
    )
    rounded = quantize(model, QuantizeConfig(calibration_data=x, weight_bits=4))
    error = np.abs(lite.predict(x) - rounded.predict(x, verbose=0))
    assert error.mean() <= 0.75 * max(lite.output_scales.values())


@pytest.mark.filterwarnings("ignore:The file is far:UserWarning")  # 4 bits of weights that were not trained to it
@pytest.mark.parametrize("base", ["int8", "int4"])
def test_each_layer_may_have_a_mode_of_its_own(base):
    inputs = keras.Input((6,))
    x = layers.Dense(8, "relu", name="wide_a")(inputs)
    x = layers.Dense(8, "relu", name="wide_b")(layers.Dense(8, "relu", name="narrow")(x))
    model = keras.Model(inputs, layers.Dense(2, name="exact")(layers.Dense(8, "relu", name="other")(x)))
    modes = {"narrow": "int4", "wide_*": "int8", "exact": "float32"}
    lite = convert(model, int8(DATA, quantization=base, layers=modes, strict=base == "int8"))
    rest = 4 if base == "int4" else 8
    assert stored_bits(lite) == {"wide_a": 8, "narrow": 4, "wide_b": 8, "other": rest, "exact": 32}
    assert lite.audit.float_layers == ("exact",)
    assert np.abs(lite.predict(DATA) - model.predict(DATA, verbose=0)).mean() < 0.2


@pytest.mark.parametrize("clustered", [False, True])
def test_weights_without_a_4_bit_kernel_stay_int8_and_are_named(clustered):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="plain")(inputs)
    model = keras.Model(inputs, layers.Conv2DTranspose(3, 3, name="transposed")(x))
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 2)).astype("float32")
    if clustered:
        model = cluster(model, ClusterConfig(number_of_clusters=8))
    lite = convert(model, int8(x, quantization="int4"))
    assert stored_bits(lite) == {"plain": 4, "transposed": 8}
    assert any("transposed" in note and "8 bits" in note for note in lite.notes)


def test_trained_weights_without_a_4_bit_kernel_are_refused_with_the_reason():
    model = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2DTranspose(3, 3, name="transposed")])
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 2)).astype("float32")
    quantized = quantize(model, QuantizeConfig(calibration_data=x, weight_bits=4))
    with pytest.raises(ConversionError, match="only TRANSPOSE_CONV take weights of 15 values"):
        convert(quantized, ConvertConfig(quantization="int4"))
    with pytest.raises(ConversionError, match="LiteRT has kernels for them in CONV_2D"):
        convert(model, int8(x, quantization="int4"))


def test_a_pattern_that_matches_no_layer_is_an_error_with_near_names():
    with pytest.raises(InvalidValueError, match="hidden.*received 'hiden'"):
        convert(cases.model("functional"), int8(sample("functional", 64), keep_float=("hiden",)))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "mse"])
@pytest.mark.parametrize("name", [SEQUENTIAL, "functional", "residual", "multi_io", "attention"])
def test_ranges_found_otherwise_keep_the_file_integer_and_near(name, method):
    lite = convert(cases.model(name), int8(sample(name, 64), calibration=method))
    assert lite.float_operators == cases.artifact(name, "int8").float_operators
    got, want = lite.predict(cases.unseen(name)), cases.keras_outputs(name)
    for output, step in lite.output_scales.items():
        got_one, want_one = (value[output] if isinstance(value, dict) else value for value in (got, want))
        assert np.abs(got_one - want_one).mean() <= 2.5 * step


def test_percentile_leaves_an_outlier_out_and_minmax_does_not():
    inputs = keras.Input((64,))
    model = keras.Model(inputs, layers.Dense(64, kernel_initializer="identity", name="out")(inputs))
    x = np.random.default_rng(0).normal(size=(1024, 64)).astype("float32")
    x[0, 0] = 5000.0  # one of 65,536 values
    errors = {}
    with pytest.warns(UserWarning, match="far from model.*calibration='percentile'"):
        files = {"minmax": convert(model, int8(x, calibration="minmax"))}
    files["percentile"] = convert(model, int8(x, calibration="percentile"))
    for method, lite in files.items():
        errors[method] = np.abs(lite.predict(x[1:65]) - model(x[1:65])).mean()
    assert errors["percentile"] < errors["minmax"] / 10


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["float32", "dynamic", "int8"])
@pytest.mark.parametrize("name", zoo.mostly_slow())
def test_a_dynamic_batch_takes_any_number_of_samples_at_once(name, quantization):
    data = {"calibration_data": sample(name, 64)} if quantization == "int8" else {}
    config = ConvertConfig(quantization=quantization, dynamic_batch=True, **data)
    lite = convert(cases.model(name), config)
    assert all(tensor.shape[0] is None for tensor in (*lite.inputs, *lite.outputs))
    x = cases.unseen(name, 5)
    one_by_one = lite.predict(x)
    interpreter = lite.new_interpreter()
    signature = interpreter.get_signature_runner()
    arrays = {info.name: match(lite.input_structure, x, "x")[info.name].astype(info.dtype) for info in lite.inputs}
    together = signature(**arrays)
    for key, value in one_by_one.items() if isinstance(one_by_one, dict) else [(lite.outputs[0].name, one_by_one)]:
        assert together[key].shape == value.shape
        np.testing.assert_allclose(together[key], value, atol=1.01 * (lite.output_scales[key] or 1e-5))
    assert all(tensor.shape[0] == 1 for tensor in cases.artifact(name, quantization).inputs)


def test_strict_names_the_operator_that_stays_float_and_keep_float_allows_it():
    with pytest.raises(ConversionError, match="strict=True.*SIN of layer 'wave'"):
        convert(waves(), int8(DATA, strict=True))
    assert convert(waves(), int8(DATA)).audit.float_layers == ("wave",)
    assert "wave" in convert(waves(), int8(DATA, strict=True, keep_float=("wave",))).audit.float_layers
    assert convert(cases.model("residual"), int8(sample("residual", 64), strict=True)).float_operators == []


def test_the_file_says_where_it_comes_from_and_what_its_classes_are(tmp_path):
    model = waves()
    lite = load_litert(convert(model, ConvertConfig(labels=("cat", "dog"))).save(tmp_path / "model.tflite"))
    assert lite.metadata["labels"] == ["cat", "dog"] and lite.metadata["tfgreen"] == __version__
    assert lite.metadata["source_sha256"] == fingerprint(model)
    assert "labels" not in convert(model).metadata


def test_the_fingerprint_is_that_of_the_weights_and_layers():
    model = waves()
    before = fingerprint(model)
    assert fingerprint(keras.models.clone_model(model)) != before  # other weights
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    assert fingerprint(twin) == before and len(before) == len(hashlib.sha256().hexdigest())
    model.layers[-1].bias.assign(model.layers[-1].bias + 1e-6)
    assert fingerprint(model) != before


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return DATA[16 * index : 16 * index + 16], np.zeros(16)


@functools.cache
def from_the_whole(method: str) -> tuple[keras.Model, bytes]:
    model = waves()
    return model, convert(model, int8(DATA, calibration=method)).content


@pytest.mark.parametrize("kind", ["dataset", "dataset with targets", "py_dataset", "generator"])
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_batches_calibrate_like_the_array_they_make(kind, method):
    import tensorflow as tf

    sources = {
        "dataset": lambda: tf.data.Dataset.from_tensor_slices(DATA).batch(24),
        "dataset with targets": lambda: tf.data.Dataset.from_tensor_slices((DATA, np.zeros(64))).batch(24),
        "py_dataset": Batches,
        "generator": lambda: (DATA[i : i + 8] for i in range(0, 64, 8)),
    }
    model, whole = from_the_whole(method)
    assert convert(model, int8(sources[kind](), calibration=method)).content == whole


def pools_volumes():
    inputs = keras.Input((4, 4, 4, 2))
    x = layers.AveragePooling3D(2, name="pool")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x)))


@pytest.mark.parametrize("mode", ["float32", "float16", "dynamic"])
def test_what_litert_lacks_becomes_tensorflows_on_request_and_says_so(mode):
    with pytest.raises(ConversionError, match=r"\['pool'\] need AvgPool3D.*ConvertConfig\(flex=True\)"):
        convert(pools_volumes(), ConvertConfig(quantization=mode))
    lite = convert(pools_volumes(), ConvertConfig(quantization=mode, flex=True))
    assert lite.operators["FlexAvgPool3D"] == 1 and lite.operators["FULLY_CONNECTED"] == 1
    assert [row.layers for row in lite.audit.operators if row.operator == "FlexAvgPool3D"] == [("pool",)]
    assert any("Flex delegate" in note and "FlexAvgPool3D" in note for note in lite.notes)
    with pytest.raises(ConversionError, match="Flex delegate"):
        lite.predict(np.zeros((1, 4, 4, 4, 2), np.float32))


def test_flex_changes_nothing_where_litert_has_every_operator():
    assert convert(waves(), ConvertConfig(flex=True)).operators == convert(waves()).operators


def test_batches_that_do_not_fit_are_named():
    with pytest.raises(InvalidValueError, match="at least one sample"):
        convert(waves(), int8(iter(())))
    with pytest.raises(InvalidValueError, match=r"expected shape .'samples', 6., received \(4, 5\)"):
        convert(waves(), int8(np.ones((4, n)) for n in (6, 5)))
    with pytest.raises(InvalidValueError, match="NaN"):
        convert(waves(), int8(np.full((4, 6), value) for value in (1.0, np.nan)))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"calibration": "median"}, "calibration"),
        ({"strict": 1}, "strict"),
        ({"dynamic_batch": "yes"}, "dynamic_batch"),
        ({"keep_float": "out"}, "keep_float"),
        ({"layers": ["out"]}, "layers.*dict"),
        ({"layers": {"out": "int16x8"}}, r"layers\['out'\].*whole files"),
        ({"flex": 1}, "flex"),
        ({"flex": True}, "flex: expected False with quantization='int8'"),
        ({"labels": [1, 2]}, "labels"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises((InvalidValueError, InvalidTypeError), match=message):
        int8(DATA, **options)
    with pytest.raises(InvalidValueError, match="'int8' or 'int4' with keep_float"):
        ConvertConfig(quantization="float16", keep_float=("out",))


def test_a_layer_asked_to_be_4_bits_that_cannot_is_int8_and_shadowed_patterns_are_errors():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2DTranspose(3, 3, name="transposed")(layers.Conv2D(4, 3, name="plain")(inputs))
    model = keras.Model(inputs, keras.ops.sin(x))
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 2)).astype("float32")
    lite = convert(model, int8(x, layers={"transposed": "int4", "plain": "int4", "sin*": "float32"}, strict=True))
    assert stored_bits(lite) == {"plain": 4, "transposed": 8}
    for names, message in (({"plan": "int4"}, "'plan'"), ({"*": "int4", "plain": "int8"}, "no earlier pattern")):
        with pytest.raises(InvalidValueError, match=message):
            convert(model, int8(x, layers=names))


class Positions(layers.Layer):
    """As KerasHub's: a slice of a table, as long as the sequence."""

    def build(self, shape):
        self.table = self.add_weight(shape=(8, shape[-1]), name="table")

    def call(self, x):
        return x + ops.slice(self.table, (0, 0), (ops.shape(x)[1], x.shape[-1]))


def test_ids_and_lengths_that_a_model_does_not_have_are_errors_that_say_so():
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    model = keras.Model(tokens, layers.Dense(2)(Positions()(layers.Embedding(9, 4)(tokens))))
    too_long = "cannot run on inputs of shapes.*Expected size.*sequences no longer than its positions"
    with pytest.raises(InvalidValueError, match=too_long):
        convert(model, sequence_length=9)
    with pytest.raises(InvalidValueError, match=too_long):
        quantize_weights(model, method="gptq", calibration_data=np.zeros((4, 9), "int32"))
    lite = convert(model, sequence_length=8)
    data = np.full((2, 8), 9, "int32")
    for run in (lambda: lite.predict(data), lambda: benchmark(lite, x=data), lambda: verify(model, lite, data)):
        with pytest.raises(InvalidValueError, match="an id that a table of the model does not have.*Pass ids from 0"):
            run()


def test_sequences_of_open_length_get_the_one_that_is_asked_for():
    tokens, mask = keras.Input((None,), dtype="int32", name="tokens"), keras.Input((None,), name="mask")
    x = layers.Embedding(9, 4)(tokens) * ops.expand_dims(mask, -1)
    model = keras.Model({"tokens": tokens, "mask": mask}, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    lite = convert(model, sequence_length=6)
    assert {tensor.name: tensor.shape for tensor in lite.inputs} == {"tokens": (1, 6), "mask": (1, 6)}
    data = {"tokens": np.arange(12).reshape(2, 6) % 9, "mask": np.ones((2, 6), "float32")}
    np.testing.assert_allclose(lite.predict(data), model.predict(data, verbose=0), atol=1e-5)
    assert not benchmark(lite, runs=1, warmup=0).assumed
    with pytest.raises(InvalidValueError, match=r"shape \('samples', 5\), received \(2, 6\)"):
        convert(model, sequence_length=5, quantization="int8", calibration_data=data)
    fixed = keras.Sequential([keras.Input((3,), name="x"), layers.Dense(2)])
    with pytest.raises(InvalidValueError, match=r"'x': \('batch', 3\).*none open, received 4. Leave it out"):
        convert(fixed, sequence_length=4)


def test_a_model_that_writes_text_becomes_one_pass_and_says_so():
    class Writer(keras.Model):
        def generate(self, x):
            return self(x)

    inputs = keras.Input((3,))
    lite = convert(Writer(inputs, layers.Dense(2)(inputs)))
    assert [note for note in lite.notes if "generate() is not in it" in note]
