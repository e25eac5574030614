from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tests.deploy import cases
from tests.zoo import ZOO, sample
from tfgreen.config import Config
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.deploy.verify import verify
from tfgreen.errors import ConversionError, InvalidTypeError, InvalidValueError

# The whole zoo in the two modes that matter most; in the others a model of each kind, and the rest as slow.
CONVERSIONS = [
    pytest.param(name, mode, marks=() if mode in ("float32", "int8") or name in zoo.QUICK else pytest.mark.slow)
    for name in ZOO
    for mode in ("float32", "float16", "dynamic", "int8", "int8-io")
]


def tiny(*shape: int) -> keras.Model:
    return keras.Sequential([keras.Input(shape, name="x"), layers.Dense(2, name="out")], name="tiny")


@pytest.mark.parametrize("name, mode", CONVERSIONS)
def test_every_zoo_model_converts_and_verifies(name, mode):
    lite, x = cases.artifact(name, mode), cases.unseen(name)
    result = verify(cases.model(name), lite, x)
    assert result.passed, f"\n{result}"
    got, expected = lite.predict(x), cases.keras_outputs(name)
    keras.tree.assert_same_structure(got, expected)
    for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(expected)):
        assert a.dtype == np.float32 and a.shape == b.shape
        if mode == "float32":
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        if mode == "float16":  # 11 bits of mantissa in every weight
            np.testing.assert_allclose(a, b, atol=2e-3)


@pytest.mark.parametrize("name", zoo.mostly_slow())
def test_int8_edges_are_stored_as_int8_and_agree_with_float_edges(name):
    inner, edges = cases.artifact(name, "int8"), cases.artifact(name, "int8-io")
    assert {t.dtype for t in edges.outputs} == {"int8"} and {t.dtype for t in inner.outputs} == {"float32"}
    if name != "attention":
        assert {t.dtype for t in edges.inputs} == {"int8"} and all(t.scale > 0 for t in edges.inputs)
    x = cases.unseen(name)
    for a, b in zip(keras.tree.flatten(edges.predict(x)), keras.tree.flatten(inner.predict(x))):
        step = max(edges.output_scales.values())
        assert np.abs(a - b).max() <= 2 * step  # ties in rounding at the edge may shift an input by one step


@pytest.mark.parametrize("name", ZOO)
def test_the_batch_is_static_and_nothing_depends_on_it(name):
    lite = cases.artifact(name, "float32")
    assert all(t.shape[0] == 1 for t in lite.inputs + lite.outputs)
    assert not {"SHAPE", "PACK", "VAR_HANDLE"} & set(lite.operators)
    assert not any(op.startswith("Flex") for op in lite.operators)


def test_names_and_order_are_those_of_the_keras_model():
    multi, shared = cases.artifact("multi_io", "int8-io"), cases.artifact("shared_layer", "float32")
    assert [t.name for t in multi.inputs] == ["image", "meta"] and [t.name for t in multi.outputs] == ["label", "size"]
    assert multi.input_structure == {"image": "image", "meta": "meta"}
    assert [t.name for t in shared.inputs] == shared.input_structure == ["left", "right"]
    interpreter = shared.new_interpreter()
    assert [d["name"] for d in interpreter.get_input_details()] == ["left", "right"]
    assert interpreter.get_signature_list()["serving_default"]["inputs"] == ["left", "right"]


def test_inputs_of_one_shape_are_not_confused():
    a, b = keras.Input((3,), name="minuend"), keras.Input((3,), name="subtrahend")
    first, second = np.full((2, 3), 5.0, "float32"), np.full((2, 3), 3.0, "float32")
    by_name = {"subtrahend": (b, second), "minuend": (a, first)}
    for order in ([a, b], [b, a], {name: tensor for name, (tensor, _) in by_name.items()}):
        lite = convert(keras.Model(order, layers.Subtract()([a, b])))
        values = {name: value for name, (_, value) in by_name.items()}
        if not isinstance(order, dict):
            values = [first if tensor is a else second for tensor in order]
        np.testing.assert_array_equal(lite.predict(values), first - second)


def test_nested_outputs_keep_their_structure_and_twins_stay_apart():
    x = keras.Input((3,), name="x")
    y = layers.Dense(2, name="y")(x)
    one, two, copy = convert(keras.Model(x, [y, y, x])).predict(np.ones((4, 3)))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(copy, np.ones((4, 3)))
    lite = convert(keras.Model(x, {"a": {"b": y}, "c": [layers.Dense(2)(x)]}))
    assert [t.name for t in lite.outputs] == ["a_b", "c_0"]
    got = lite.predict(np.ones((4, 3)))
    assert got["a"]["b"].shape == (4, 2) and isinstance(got["c"], list)


def test_any_name_that_keras_allows_is_kept():
    x = keras.Input((3,), name="größe: 1 & 2")
    lite = convert(keras.Model(x, {"0.5 %": layers.Dense(2)(x)}))
    assert [lite.inputs[0].name, lite.outputs[0].name] == ["größe: 1 & 2", "0.5 %"]
    assert lite.predict({"größe: 1 & 2": np.ones((2, 3))})["0.5 %"].shape == (2, 2)


def test_a_subclassed_model_with_several_arguments_is_called_by_keyword():
    @keras.saving.register_keras_serializable(package="deploy_tests")
    class Ratio(keras.Model):
        def build(self, top_shape, bottom_shape):
            pass

        def call(self, top, bottom):
            return top / bottom

    model = Ratio()
    top, bottom = np.full((2, 3), 6.0, "float32"), np.full((2, 3), 2.0, "float32")
    model(top, bottom)
    lite = convert(model)
    np.testing.assert_array_equal(lite.predict({"top": top, "bottom": bottom}), top / bottom)
    assert verify(model, lite, {"top": top, "bottom": bottom}).passed


@pytest.mark.parametrize("name", ["functional", "lstm", "subclassed"])
def test_the_model_is_untouched(name):
    model = ZOO[name]()
    weights, config = [w.copy() for w in model.get_weights()], model.get_config()
    convert(model, ConvertConfig(quantization="int8", calibration_data=sample(name)))
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(before, after)


def test_dynamic_quantizes_large_weights_and_float16_halves_them():
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Dense(4)])
    sizes = {q: convert(model, ConvertConfig(quantization=q)) for q in ("float32", "float16", "dynamic")}
    assert {q: lite.quantization for q, lite in sizes.items()} == {q: q for q in sizes}
    assert sizes["float16"].size_bytes < 0.65 * sizes["float32"].size_bytes
    assert sizes["dynamic"].size_bytes < 0.5 * sizes["float32"].size_bytes
    x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    assert verify(model, sizes["dynamic"], x).passed and verify(model, sizes["float16"], x).passed


def test_recurrent_layers_are_unrolled_for_int8_and_the_note_says_so():
    lite = cases.artifact("lstm", "int8")
    assert "WHILE" not in lite.operators and "WHILE" in cases.artifact("lstm", "float32").operators
    assert any("step by step" in note and "bidirectional/forward_layer" in note for note in lite.notes)


@pytest.mark.slow
def test_a_crash_of_the_converter_is_an_error_that_names_the_layer():
    # TensorFlow 2.21 dies of SIGSEGV here. No fixed number of steps: the layer cannot be unrolled.
    sequence = keras.Input((None, 4))
    model = keras.Model(sequence, layers.Dense(3)(layers.LSTM(5, name="memory")(sequence)), name="open_end")
    data = np.random.default_rng(0).normal(size=(4, 7, 4)).astype("float32")
    with pytest.raises(ConversionError, match="open_end.*quantization='int8'") as info:
        convert(model, ConvertConfig(quantization="int8", calibration_data=data))
    assert "memory" in str(info.value) and "dynamic" in str(info.value) and "\x1b" not in str(info.value)
    lite = convert(model, ConvertConfig(quantization="dynamic"))
    for steps in (7, 3):
        np.testing.assert_allclose(lite.predict(data[:, :steps]), model(data[:, :steps]), atol=1e-5)


@pytest.mark.slow
def test_a_loop_that_int8_can_take_converts_in_a_process_of_its_own():
    class Halve(layers.Layer):
        def call(self, x):
            return keras.ops.while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, v * 0.5 + 1.0), (0, x))[1]

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(4)(Halve()(inputs)))
    x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
    lite = convert(model, ConvertConfig(quantization="int8", calibration_data=x))
    assert lite.operators["WHILE"] == 1
    assert verify(model, lite, x).passed


@pytest.mark.parametrize("name", ["residual", "attention", "subclassed", "multi_io"])
def test_mixed_float16_is_computed_in_float32_and_the_note_says_so(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = ZOO[name]()
        lite = convert(model)
        assert model.compute_dtype == "float16" and lite.quantization == "float32"
        assert "float32 instead of float16" in lite.notes[0]
        assert verify(model, lite, sample(name), mean_scales=1.0, max_scales=2.0, agreement=0.8).passed
    finally:
        keras.config.set_dtype_policy(before)


def fake_quant(x):
    return keras.quantizers.fake_quant_with_min_max_vars(x, -3.0, 3.0)


class TrainedDense(layers.Dense):
    """What quantization-aware training leaves behind: ranges on the kernel and the output."""

    def call(self, x):
        kernel = fake_quant(keras.ops.convert_to_tensor(self.kernel.value))
        return fake_quant(keras.ops.relu(keras.ops.matmul(x, kernel) + self.bias))


class Trained(layers.Layer):
    def call(self, x):
        return fake_quant(x)

    def compute_output_shape(self, shape):
        return shape


def test_trained_ranges_need_no_calibration_data():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, TrainedDense(4)(TrainedDense(8)(Trained()(inputs))))
    x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
    for edges in ("float32", "int8"):
        lite = convert(model, ConvertConfig(quantization="int8", input_dtype=edges, output_dtype=edges))
        assert lite.operators["FULLY_CONNECTED"] == 2 and not lite.notes
        assert {t.dtype for t in lite.inputs + lite.outputs} == {edges}
        np.testing.assert_allclose(lite.predict(x), model(x), atol=6 / 255 + 1e-6)  # one step


def test_what_has_no_trained_range_stays_float_and_is_named_unless_data_is_given():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(4, activation="tanh")(TrainedDense(8)(Trained()(inputs))))
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    without = convert(model, ConvertConfig(quantization="int8"))
    assert "TANH" in without.float_operators and "TANH" in without.notes[0]
    given = convert(model, ConvertConfig(quantization="int8", calibration_data=x))
    assert not given.float_operators and not any("float32" in note for note in given.notes)
    assert verify(model, without, x).passed and verify(model, given, x).passed


class TestConfig:
    def test_round_trip(self):
        config = ConvertConfig(quantization="int8", calibration_data=np.ones(3), output_dtype="int8")
        restored = Config.from_dict(config.to_dict())
        assert restored == config and restored.calibration_data is None

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"quantization": "int7"}, "quantization: expected 'float32', .* or 'int4', received 'int7'"),
            ({"input_dtype": "int8"}, "input_dtype: expected 'float32' with quantization='float32', received 'int8'"),
            ({"quantization": "int8", "output_dtype": "uint8"}, "output_dtype: expected 'float32' or 'int8'"),
            ({"calibration_data": np.ones(3)}, "calibration_data: expected none"),
        ],
    )
    def test_a_bad_combination_is_refused(self, arguments, message):
        with pytest.raises(InvalidValueError, match=message):
            ConvertConfig(**arguments)

    def test_importing_it_does_not_import_tensorflow(self):
        code = (
            "import sys, tfgreen.deploy.conversion.config, tfgreen.deploy.litert_model;"
            "sys.exit(sum(m in sys.modules for m in ('tensorflow', 'keras')))"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestBadModels:
    def test_no_keras_model(self):
        with pytest.raises(InvalidTypeError, match="model: expected a keras.Model .*, received Dense"):
            convert(layers.Dense(2))

    def test_no_config(self):
        with pytest.raises(InvalidTypeError, match="config: expected a tg.ConvertConfig, received str.*quantization="):
            convert(tiny(3), "int8")

    def test_not_built(self):
        with pytest.raises(InvalidValueError, match="expected a built model"):
            convert(keras.Sequential([layers.Dense(2)]))

    def test_a_call_that_fails_on_one_sample(self):
        class Pairs(keras.Model):
            def call(self, x):
                return keras.ops.reshape(x, (2, -1))[:, :4] + keras.ops.ones((2, 4)) @ keras.ops.ones((3, 4))

        model = Pairs()
        model.build((2, 6))
        with pytest.raises((ConversionError, InvalidValueError)):
            convert(model)

    def test_an_operation_that_litert_lacks(self):
        inputs = keras.Input((4, 4))
        model = keras.Model(inputs, keras.ops.linalg.cholesky(inputs), name="cholesky_net")
        with pytest.raises(ConversionError, match="model 'cholesky_net' cannot be converted") as info:
            convert(model)
        assert "Cholesky" in str(info.value)

    def test_a_stateful_layer(self):
        inputs = keras.Input((3, 4), batch_size=1)
        with pytest.raises(ConversionError, match="writes to a variable during inference"):
            convert(keras.Model(inputs, layers.SimpleRNN(2, stateful=True)(inputs)))


class TestBadCalibration:
    def convert(self, model, data, **more):
        return convert(model, ConvertConfig(quantization="int8", calibration_data=data, **more))

    def test_none(self):
        with pytest.raises(InvalidValueError, match="calibration_data: expected samples .* of model 'tiny'"):
            self.convert(tiny(3), None)

    @pytest.mark.parametrize(
        "data, message",
        [
            (np.zeros((0, 3)), "calibration_data: expected at least one sample, received 0"),
            (np.zeros((5, 4)), r"of input 'x': expected shape \('samples', 3\), received \(5, 4\)"),
            (np.zeros(3), "received \\(3,\\)"),
            ([[1.0, 2.0, 3.0], [1.0]], "of input 'x' has rows of different lengths"),
            (np.array([[0.0, np.nan, 1.0]]), "expected finite numbers, received 1 NaN or infinite"),
            (np.array([[0.0, np.inf, 1.0]]), "expected finite numbers"),
            ({"y": np.zeros((5, 3))}, r"expected one array \('x'\), received \['y'\]"),
        ],
    )
    def test_unfit_data_is_refused_by_input_name(self, data, message):
        with pytest.raises(InvalidValueError, match=message):
            self.convert(tiny(3), data)

    def test_no_numbers(self):
        with pytest.raises(InvalidTypeError, match="of input 'x' .*expected an array of numbers"):
            self.convert(tiny(3), np.array([["a", "b", "c"]]))

    def test_different_counts_and_missing_names(self):
        model = cases.model("multi_io")
        with pytest.raises(InvalidValueError, match="as many samples for every input"):
            self.convert(model, {"image": np.zeros((4, 8, 8, 1)), "meta": np.zeros((5, 3))})
        with pytest.raises(InvalidValueError, match="expected a dict with keys"):
            self.convert(model, {"image": np.zeros((4, 8, 8, 1))})

    def test_integer_inputs_cannot_be_stored_as_int8(self):
        with pytest.raises(InvalidValueError, match="input_dtype: expected 'float32' for a model with integer inputs"):
            self.convert(cases.model("attention"), sample("attention"), input_dtype="int8")

    def test_data_is_cast_and_mapped_by_name(self):
        x = sample("multi_io", 64)
        as_float64 = {"meta": x["meta"].astype("float64"), "image": x["image"].astype("float64")}
        assert self.convert(cases.model("multi_io"), as_float64).content == cases.artifact("multi_io", "int8").content


def test_nothing_is_printed(capfd):
    out, err = io.StringIO(), io.StringIO()  # a notebook's streams are not the process's
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for quantization in ("float32", "int8"):
            data = np.ones((4, 3)) if quantization == "int8" else None
            lite = convert(tiny(3), quantization=quantization, calibration_data=data)
            lite.predict(np.ones((2, 3)))
    assert (out.getvalue(), err.getvalue()) == ("", "")
    assert capfd.readouterr().out == ""  # native code logs to the standard error of the process, which is the user's


@pytest.mark.slow
def test_two_threads_convert_and_the_process_keeps_its_streams():
    code = """
import os, threading
import keras, numpy as np
import tfgreen as tg
model = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]) for _ in range(2)]
data, files = np.random.default_rng(0).random((64, 3)), {}
def work(i):
    for q in ("int8", "float32"):
        files[i, q] = tg.convert(model[i], quantization=q, calibration_data=data if q == "int8" else None)
threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
[t.start() for t in threads]; [t.join() for t in threads]
assert all(f.predict(data).shape == (64, 2) for f in files.values()) and len(files) == 4
print("printed", flush=True); os.write(1, b"written"); os.write(2, b"error")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "printed\nwritten" and done.stderr.endswith("error")
