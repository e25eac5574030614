from __future__ import annotations

import concurrent.futures
import copy
import gzip
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import tfgreen as tg
from tests.deploy import cases
from tests.zoo import ZOO
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.deploy.litert_model import LiteRTModel, load_litert
from tfgreen.errors import ConversionError, FileError, InvalidTypeError, InvalidValueError


@pytest.mark.parametrize("name", ZOO)
def test_save_and_load_change_nothing(name, tmp_path):
    for mode in ("float32", "int8-io"):
        lite, x = cases.artifact(name, mode), cases.unseen(name, 5)
        path = lite.save(tmp_path / f"{mode}.tflite")
        loaded = load_litert(path)
        assert path.stat().st_size == lite.size_bytes == loaded.size_bytes
        assert (loaded.notes, loaded.inputs, loaded.outputs) == (lite.notes, lite.inputs, lite.outputs)
        got, expected = loaded.predict(x), lite.predict(x)
        keras.tree.assert_same_structure(got, expected)
        for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(expected)):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["lstm", "multi_io", "sequential"])
def test_each_sample_runs_alone(name):
    """State of a loop, or a batch that is cut into blocks, must not leak into the next sample."""
    lite, x = cases.artifact(name, "float32"), cases.unseen(name, 300)
    once, twice = lite.predict(x), lite.predict(x)
    last = lite.predict(keras.tree.map_structure(lambda a: a[-1:], x))
    for a, b, c in zip(*(keras.tree.flatten(y) for y in (once, twice, last))):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[-1:], c)


def test_edges_quantize_as_the_file_says():
    """predict() on an int8 file equals quantizing by hand, running the interpreter, and dequantizing by hand."""
    lite, x = cases.artifact("sequential", "int8-io"), cases.unseen("sequential", 6) * 3  # some values clip
    interpreter = lite.new_interpreter()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    (scale, zero), (out_scale, out_zero) = source["quantization"], target["quantization"]
    stored = np.clip(np.round(x.astype(np.float64) / scale) + zero, -128, 127).astype(np.int8)
    assert (stored == 127).any()
    for k, expected in enumerate(lite.predict(x)):
        interpreter.set_tensor(source["index"], stored[k : k + 1])
        interpreter.invoke()
        by_hand = (interpreter.get_tensor(target["index"])[0].astype(np.float64) - out_zero) * out_scale
        np.testing.assert_allclose(expected, by_hand, rtol=1e-6, atol=1e-9)


def test_predict_takes_names_lists_and_other_number_types():
    lite, (left, right) = cases.artifact("shared_layer", "float32"), cases.unseen("shared_layer", 4)
    expected = lite.predict([left, right])
    np.testing.assert_array_equal(lite.predict({"right": right, "left": left}), expected)
    np.testing.assert_array_equal(lite.predict((left.astype("float64"), right.tolist())), expected)
    tokens = cases.unseen("attention", 4)
    attention = cases.artifact("attention", "float32")
    np.testing.assert_array_equal(attention.predict(tokens.astype("float32")), attention.predict(tokens))


@pytest.mark.parametrize(
    "name, x, message",
    [
        ("functional", np.zeros((4, 11)), r"x of input 'input_layer': expected shape \('samples', 12\), received"),
        ("functional", np.zeros((0, 12)), "x: expected at least one sample, received 0"),
        ("functional", np.zeros(12), r"received \(12,\)"),
        ("shared_layer", np.zeros((4, 6)), "expected a list of 2 arrays"),
        ("shared_layer", [np.zeros((4, 6)), np.zeros((3, 6))], "expected as many samples for every input"),
        ("multi_io", {"image": np.zeros((1, 8, 8, 1))}, "expected a dict with keys"),
        ("attention", np.full((1, 6), 0.5), "input 'tokens': expected whole numbers"),
        ("attention", np.full((1, 6), np.nan), "input 'tokens': expected whole numbers"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(name, x, message):
    with pytest.raises(InvalidValueError, match=message):
        cases.artifact(name, "float32").predict(x)


def test_text_and_nan_are_refused():
    with pytest.raises(InvalidTypeError, match="expected an array of numbers"):
        cases.artifact("functional", "float32").predict(np.full((2, 12), "a"))
    with pytest.raises(InvalidValueError, match="expected numbers, received 24 NaN"):
        cases.artifact("functional", "int8-io").predict(np.full((2, 12), np.nan))


def test_evaluate_is_the_accuracy_of_predict():
    lite, x = cases.artifact("functional", "int8"), cases.unseen("functional")
    labels = lite.predict(x).argmax(axis=1)
    labels[:12] = (labels[:12] + 1) % 4
    assert lite.evaluate(x, labels) == lite.evaluate(x, np.eye(4)[labels]) == 0.75
    assert lite.evaluate(x, labels, metrics=["accuracy"]) == {"accuracy": 0.75}


def test_evaluate_gives_keras_metrics_for_any_task():
    lite, x = cases.artifact("multi_io", "float32"), cases.unseen("multi_io")
    predicted = lite.predict(x)
    labels, sizes = predicted["label"].argmax(axis=1), predicted["size"] + 2.0
    metrics = {"label": ["accuracy"], "size": [keras.metrics.MeanAbsoluteError(name="error")]}
    found = lite.evaluate(x, {"label": labels, "size": sizes}, metrics=metrics)
    assert found == {"label_accuracy": 1.0, "size_error": pytest.approx(2.0, rel=1e-6)}


def test_batches_bring_their_targets_or_are_refused():
    import tensorflow as tf

    lite, x = cases.artifact("functional", "int8"), cases.unseen("functional", 20)
    labels = lite.predict(x).argmax(axis=1)
    labels[:5] = (labels[:5] + 1) % 4
    data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(8)
    assert lite.evaluate(data) == lite.evaluate(iter(list(data))) == 0.75
    assert lite.evaluate(data, metrics=["accuracy"]) == {"accuracy": 0.75}
    np.testing.assert_array_equal(lite.predict(data), lite.predict(x))
    np.testing.assert_array_equal(lite.predict([x]), lite.predict(data.map(lambda x, y: x)))
    for arguments in ((x,), (data, labels), (data.map(lambda x, y: x),)):
        with pytest.raises(InvalidValueError, match=r"targets: y.*Pass evaluate\(x, y\), or batches"):
            lite.evaluate(*arguments)
    with pytest.raises(InvalidValueError, match="dataset.batch"):
        lite.predict(data.unbatch())


@pytest.mark.parametrize("kind", ["int8", "dynamic"])
def test_nan_of_which_a_file_makes_integers_is_said_with_the_samples(kind):
    wide = keras.Sequential([keras.Input((12,)), keras.layers.Dense(100)])
    lite = tg.convert(wide, quantization=kind) if kind == "dynamic" else cases.artifact("functional", kind)
    x = np.ones((9, 12), "float32")
    x[[2, 7], 3] = np.nan, np.inf
    for data in (x, iter([x[:4], x[4:]])):
        with pytest.warns(UserWarning, match=rf"holds NaN or infinity in 2 samples \(2, 7\): the {kind} file makes"):
            lite.predict(data)
    assert np.isnan(cases.artifact("functional", "float32").predict(x)[[2, 7]]).any(axis=-1).all()


def test_nan_and_text_in_what_is_evaluated_are_named():
    lite, x = cases.artifact("functional", "float32"), cases.unseen("functional", 8)
    with pytest.raises(InvalidValueError, match="y: expected numbers, received 8 NaN"):
        lite.evaluate(x, np.full(8, np.nan))
    with pytest.raises(InvalidValueError, match="scores of the file: expected numbers, received 4 NaN. Look for"):
        lite.evaluate(np.where(np.arange(8)[:, None] == 2, np.nan, x), np.zeros(8))
    with pytest.raises(InvalidTypeError, match=r"y \(dtype <U3\): expected class numbers.*names.index"):
        lite.evaluate(x, ["cat"] * 8)
    with pytest.warns(UserWarning, match="A metric is NaN.*'targets': 32"):
        lite.evaluate(x, np.full((8, 4), np.nan), metrics=["mae"])


def test_stored_integers_are_not_quantized_again_and_clipped_values_are_said():
    lite, x = cases.artifact("sequential", "int8-io"), cases.unseen("sequential", 6)
    stored = lite.inputs[0].to_stored(x)
    with pytest.raises(InvalidValueError, match=r"received int8, as the file stores.*Pass lite.inputs\[0\].to_real"):
        lite.predict(stored)
    np.testing.assert_array_equal(lite.predict(lite.inputs[0].to_real(stored)), lite.predict(x))
    for mode in ("int8-io", "int8"):
        with pytest.warns(UserWarning, match="is outside .* the range of the file's input"):
            cases.artifact("sequential", mode).predict(np.full((2, 8, 8, 3), 200, "uint8"))


def test_evaluate_refuses_what_has_no_top_class():
    with pytest.raises(InvalidValueError, match="one output of shape"):
        cases.artifact("multi_io", "float32").evaluate(cases.unseen("multi_io"), np.zeros(48))
    with pytest.raises(InvalidValueError, match="a label for each of the 48 samples, received 3"):
        cases.artifact("functional", "float32").evaluate(cases.unseen("functional"), [0, 1, 2])


def sparse_net() -> keras.Model:
    image = keras.Input((40, 40, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, name="conv")(image))
    model = keras.Model(image, layers.Dense(4, name="dense")(x))
    rng = np.random.default_rng(0)
    for layer in (model.get_layer("conv"), model.get_layer("dense")):
        kernel = rng.uniform(0.5, 1.0, layer.kernel.shape) * (rng.random(layer.kernel.shape) < 0.25)
        layer.kernel.assign(kernel)
    return model


@pytest.mark.parametrize("quantization", ["float32", "float16", "int8"])
def test_sparsity_is_counted_in_the_file(quantization):
    model = sparse_net()
    data = np.random.default_rng(1).normal(size=(8, 40, 40, 3)) if quantization == "int8" else None
    lite = convert(model, ConvertConfig(quantization=quantization, calibration_data=data))
    kernels = [w for w in model.get_weights() if w.ndim >= 2]
    expected = sum(int((k == 0).sum()) for k in kernels) / sum(k.size for k in kernels)
    assert lite.sparsity == pytest.approx(expected)
    item = {"float32": 4, "float16": 2, "int8": 1}[quantization]
    assert lite.nonzero_bytes == item * sum(int((k != 0).sum()) for k in kernels)
    stored = sorted(lite.weights.values(), key=lambda w: w.values.size)
    for tensor, kernel in zip(stored, sorted(kernels, key=lambda k: k.size)):
        turned = np.moveaxis(kernel, -1, 0)  # LiteRT puts output channels first
        np.testing.assert_allclose(tensor.real, turned, atol=5e-3)


@pytest.mark.parametrize("quantization, itemsize", [("float32", 4), ("int8", 1)])
def test_coded_bytes_are_indices_and_values_where_these_are_few(quantization, itemsize):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(50, name="few"), layers.Dense(40, name="many")])
    rng = np.random.default_rng(0)
    model.get_layer("few").kernel.assign(rng.choice([-0.5, -0.25, 0.3, 0.5, 1.0], (64, 50)))
    model.get_layer("many").kernel.assign(rng.normal(size=(50, 40)))
    data = rng.normal(size=(16, 64)) if quantization == "int8" else None
    lite = convert(model, ConvertConfig(quantization=quantization, calibration_data=data))
    few = 64 * 50 * 3 // 8 + 5 * itemsize  # five values: indices of three bits
    assert lite.coded_bytes == lite.size_bytes - 64 * 50 * itemsize + few


def test_sizes_operators_and_repr_tell_what_is_there():
    lite = cases.artifact("sequential", "int8")
    assert lite.gzip_bytes == len(gzip.compress(lite.content, 9, mtime=0)) < lite.size_bytes == len(lite.content)
    assert lite.operators == {
        "CONV_2D": 1,
        "DEQUANTIZE": 1,
        "FULLY_CONNECTED": 1,
        "MAX_POOL_2D": 1,
        "QUANTIZE": 1,
        "RESHAPE": 1,
        "SOFTMAX": 1,
    }
    assert "int8" in repr(lite) and "float32[1, 8, 8, 3]" in repr(lite)
    assert cases.artifact("lstm", "float32").operators["FULLY_CONNECTED"] > 1  # those in loop bodies count


def test_a_large_file_is_weighed_in_seconds():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1500,)), layers.Dense(1500)])  # 9 MB
    lite = convert(model)
    assert lite.gzip_bytes == len(gzip.compress(lite.content, 4, mtime=0)) < lite.size_bytes


def test_it_can_be_copied_and_pickled():
    lite, x = cases.artifact("functional", "float32"), cases.unseen("functional", 2)
    expected = lite.predict(x)
    for other in (copy.deepcopy(lite), pickle.loads(pickle.dumps(lite))):
        np.testing.assert_array_equal(other.predict(x), expected)


def test_a_file_of_another_tool_runs_by_its_own_names(tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, 2), name="a"), tf.TensorSpec((1, 2), name="b")])
    def net(a, b):
        return {"sum": a + b, "difference": a - b}

    content = tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()], net).convert()
    (tmp_path / "other.tflite").write_bytes(content)
    lite = load_litert(tmp_path / "other.tflite")
    assert lite.notes == () and sorted(lite.input_structure) == ["a", "b"]
    got = lite.predict({"a": np.full((3, 2), 5.0), "b": np.full((3, 2), 3.0)})
    assert len(got) == 2 and {float(v[0, 0]) for v in got.values()} == {8.0, 2.0}


def fused_rnn() -> bytes:
    """A file with a variable tensor: h = 2 x + h, where h outlives the invocation. Keras 3 makes none, Keras 2 did."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    data = [None, [[2.0]], [[1.0]], [0.0]]
    buffers = [schema.BufferT(None if d is None else np.frombuffer(np.float32(d).tobytes(), np.uint8)) for d in data]
    shapes = {"x": (0, [1, 1]), "w": (1, [1, 1]), "r": (2, [1, 1]), "b": (3, [1]), "h": (0, [1, 1]), "y": (0, [1, 1])}
    tensors = [
        schema.TensorT(shape, schema.TensorType.FLOAT32, buffer, name, isVariable=name == "h")
        for name, (buffer, shape) in shapes.items()
    ]
    options = schema.RNNOptionsT(schema.ActivationFunctionType.NONE)
    operator = schema.OperatorT(0, [0, 1, 2, 3, 4], [5], schema.BuiltinOptions.RNNOptions, options)
    graph = schema.SubGraphT(tensors, [0], [5], [operator], "main")
    code = schema.OperatorCodeT(schema.BuiltinOperator.RNN, version=1, builtinCode=schema.BuiltinOperator.RNN)
    builder = flatbuffers.Builder(1024)
    model = schema.ModelT(3, [code], [graph], "fused", buffers)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_state_kept_in_a_fused_operator_does_not_reach_the_next_sample():
    lite = LiteRTModel(fused_rnn())
    assert lite.operators == {"RNN": 1} and [t.name for t in lite.inputs] == ["x"]
    np.testing.assert_array_equal(lite.predict([[1.0], [1.0], [3.0]]), [[2.0], [2.0], [6.0]])


class TestDamagedFiles:
    def test_missing_and_folder(self, tmp_path):
        with pytest.raises(FileError, match="no.tflite: cannot be read: No such file"):
            load_litert(tmp_path / "no.tflite")
        with pytest.raises(FileError, match="cannot be read"):
            load_litert(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"TFL3", b"PK\x03\x04 a zip file", b"\x1c\x00\x00\x00TFL3", b"x" * 5000])
    def test_no_model(self, content, tmp_path):
        path = tmp_path / "m.tflite"
        path.write_bytes(content)
        with pytest.raises(FileError, match="m.tflite"):
            load_litert(path)

    def test_not_bytes(self):
        with pytest.raises(InvalidTypeError, match="the bytes of a .tflite file"):
            LiteRTModel("m.tflite")

    @pytest.mark.parametrize("name, mode", [("sequential", "int8"), ("multi_io", "float32")])
    def test_truncated_anywhere(self, name, mode):
        content = cases.artifact(name, mode).content
        for length in range(0, len(content), 37):
            with pytest.raises(FileError):
                LiteRTModel(content[:length])

    @settings(deadline=None, max_examples=150)
    @given(st.data())
    def test_flipped_bytes_are_found_or_harmless_to_inspect(self, data):
        content = bytearray(cases.artifact("multi_io", "int8").content)
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            content[place] ^= data.draw(st.integers(1, 255))
        try:
            lite = LiteRTModel(bytes(content))
        except FileError:
            return
        assert 0 <= lite.sparsity <= 1 and lite.operators and lite.quantization and repr(lite)

    def test_save_into_a_missing_folder(self, tmp_path):
        with pytest.raises(FileError, match="cannot be written"):
            cases.artifact("functional", "float32").save(tmp_path / "no" / "m.tflite")


@pytest.mark.parametrize("name", ["functional", "multi_io"])
def test_tensor_data_lies_on_16_bytes(name):
    """The schema asks for it; microcontrollers read the data in place and fault or slow down without it."""
    from ai_edge_litert import schema_py_generated as schema

    content = cases.artifact(name, "int8").content
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    model = schema.Model.GetRootAsModel(content, 0)
    offsets = [
        model.Buffers(i).DataAsNumpy().__array_interface__["data"][0] - start
        for i in range(model.BuffersLength())
        if model.Buffers(i).DataLength()
    ]
    assert len(offsets) > 3 and all(offset % 16 == 0 for offset in offsets)


# What must not be imported to run a file, and what LiteRT says once in each process.
FREE_OF = ("keras", "tensorflow", "absl")
NOTICE = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


def test_a_file_runs_without_keras_and_prints_one_notice_of_the_runtime(tmp_path):
    path = cases.artifact("concat", "int8").save(tmp_path / "m.tflite")
    np.save(tmp_path / "x.npy", cases.unseen("concat", 3))
    program = f"""
import sys
import numpy as np
import tfgreen as tg
lite = tg.load_litert({str(path)!r})
x = np.load({str(tmp_path / 'x.npy')!r})
for _ in range(2):
    lite.new_interpreter()
scores = lite.predict(x)
accuracy = lite.evaluate(x, scores.argmax(axis=1))
_ = lite.audit, lite.weights, lite.arena_bytes, lite.coded_bytes, lite.save({str(tmp_path / 'm.cc')!r})
print(accuracy, scores.shape[0], [name for name in {FREE_OF} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1.0 3 []\n", NOTICE)


def test_threads_may_share_a_model():
    lite, x = LiteRTModel(cases.artifact("sequential", "int8").content), cases.unseen("sequential", 40)
    expected = lite.predict(x)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found in pool.map(lite.predict, [x[k:] for k in range(32)]):
            np.testing.assert_array_equal(found, expected[-len(found) :])


def from_tensorflow(function, owner) -> LiteRTModel:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], owner)
    converter.experimental_enable_resource_variables = True
    converter.allow_custom_ops = True
    return LiteRTModel(converter.convert())


def test_variables_start_anew_with_each_sample():
    class Counter(tf.Module):
        def __init__(self):
            super().__init__()
            self.count = tf.Variable(tf.ones((1, 3)))

        @tf.function(input_signature=[tf.TensorSpec((1, 3))])
        def add(self, x):
            self.count.assign_add(x)
            return self.count + 0.0

    counter = Counter()
    lite = from_tensorflow(counter.add, counter)
    x = np.arange(6, dtype="float32").reshape(2, 3)
    for _ in range(2):
        np.testing.assert_array_equal(lite.predict(x), x + 1)


def test_an_operator_of_another_library_is_refused_by_name():
    @tf.function(input_signature=[tf.TensorSpec((1, 3, 3))])
    def solve(x):
        return tf.linalg.cholesky(x)

    lite = from_tensorflow(solve, tf.Module())
    assert list(lite.operators) == ["Cholesky"] and str(lite.audit)
    with pytest.raises(ConversionError, match="Cholesky"):
        lite.predict(np.eye(3)[None])


def test_an_open_batch_is_a_batch_of_one_on_a_microcontroller():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    lite = LiteRTModel(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    assert lite.inputs[0].shape == (None, 3)
    assert not tg.check_target(lite, "tflm") and lite.arena_bytes.planned_bytes == 32
    length = tg.convert(keras.Sequential([keras.Input((None, 3)), layers.Dense(2)]))
    assert any(finding.severity == "error" for finding in tg.check_target(length, "tflm"))
    with pytest.raises(InvalidValueError, match="its size is open"):
        length.arena_bytes


def test_inputs_of_an_open_size_take_the_shapes_given_to_the_interpreter():
    lite = convert(keras.Sequential([keras.Input((None, 3)), layers.Conv1D(2, 5)]))
    name = lite.inputs[0].name
    assert tuple(lite.new_interpreter(input_shapes={name: (1, 9, 3)}).get_output_details()[0]["shape"]) == (1, 5, 2)
    with pytest.raises(ConversionError, match=r"refuses the model with inputs of shapes \[\(1, 2, 3\)\]"):
        lite.new_interpreter(input_shapes={name: (1, 2, 3)})
    with pytest.raises(ConversionError):
        lite.predict(np.zeros((1, 2, 3)))
    assert lite.predict(np.zeros((2, 9, 3))).shape == (2, 5, 2)
