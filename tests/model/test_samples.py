"""One reader for samples in every form, with one set of errors."""

from __future__ import annotations

import math
import re

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tfgreen as tg
from tests import zoo
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.samples import comes_in_batches, sample_arrays, sample_batches
from tfgreen.structure import CallSpec, InputSpec

ONE = CallSpec("x", (InputSpec("x", (3,), "float32"),))
TWO = CallSpec(["a", "b"], (InputSpec("a", (3,), "float32"), InputSpec("b", (2,), "int32")))
NAMED = CallSpec({"a": "a", "b": "b"}, TWO.inputs)
A, B, Y = np.arange(21.0).reshape(7, 3).astype("float32"), np.arange(14).reshape(7, 2), np.zeros(7)


class Batches(keras.utils.PyDataset):
    """Items and a number of batches, no iterator."""

    def __init__(self, batches, count):
        super().__init__()
        self.batches, self.count = batches, count

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, index):
        return self.batches[index]


def cut(*arrays):
    """Batches of 3, 3 and 1 samples."""
    return [tuple(array[start : start + 3] for array in arrays) for start in (0, 3, 6)]


FORMS = {
    "array": (ONE, lambda: A),
    "nested lists": (ONE, lambda: A.tolist()),
    "tensor": (ONE, lambda: tf.constant(A)),
    "a list of one array": (ONE, lambda: [A]),
    "a dict of one array": (ONE, lambda: {"x": A}),
    "memory map": (ONE, lambda: np.lib.stride_tricks.as_strided(A)),
    "integers": (ONE, lambda: A.astype("uint8")),
    "bfloat16": (ONE, lambda: tf.cast(A, "bfloat16")),
    "tf.data": (ONE, lambda: tf.data.Dataset.from_tensor_slices(A).batch(3)),
    "tf.data with targets": (ONE, lambda: tf.data.Dataset.from_tensor_slices((A, Y)).batch(3)),
    "PyDataset": (ONE, lambda: Batches(cut(A, Y), 3)),
    "generator": (ONE, lambda: (x for (x,) in cut(A))),
    "generator with targets and weights": (ONE, lambda: iter(cut(A, Y, Y))),
    "generator of dicts": (ONE, lambda: ({"x": x} for (x,) in cut(A))),
    "list of batches with targets": (ONE, lambda: cut(A, Y)),
    "list of batches by name": (ONE, lambda: [{"x": x} for (x,) in cut(A)]),
    "empty batches between": (ONE, lambda: iter([A[:0], A, A[:0]])),
    "two arrays": (TWO, lambda: [A, B]),
    "two arrays in a tuple": (TWO, lambda: (A, B)),
    "two arrays by name": (TWO, lambda: {"b": B, "a": A}),
    "two inputs in tf.data": (TWO, lambda: tf.data.Dataset.from_tensor_slices(((A, B), Y)).batch(4)),
    "two inputs by name in tf.data": (TWO, lambda: tf.data.Dataset.from_tensor_slices({"a": A, "b": B}).batch(4)),
    "two inputs from a generator": (TWO, lambda: ([a, b] for a, b in cut(A, B))),
    "a structure of names": (NAMED, lambda: {"a": A, "b": B}),
}


@pytest.mark.parametrize("spec, make", FORMS.values(), ids=FORMS)
def test_every_form_holds_the_same_samples(spec, make):
    expected = dict(zip((item.name for item in spec.inputs), (A, B)))
    found = sample_arrays(make(), spec)
    assert list(found) == list(expected)
    batches = list(sample_batches(make(), spec, batch_size=2))
    for item in spec.inputs:
        np.testing.assert_array_equal(found[item.name], expected[item.name])
        np.testing.assert_array_equal(np.concatenate([b[item.name] for b in batches]), expected[item.name])
        assert found[item.name].dtype == item.dtype and batches[0][item.name].dtype == item.dtype


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12))
def test_arrays_are_cut_into_batches_of_the_size_asked_for(count, size):
    x = np.arange(3 * count, dtype="float32").reshape(count, 3)
    sizes = [len(batch["x"]) for batch in sample_batches(x, ONE, size)]
    assert sizes == [size] * (count // size) + [count % size] * bool(count % size)


def test_arrays_of_the_right_dtype_are_not_copied():
    assert sample_arrays(A, ONE)["x"] is A
    assert all(np.shares_memory(batch["x"], A) for batch in sample_batches(A, ONE))


def test_batches_are_read_one_at_a_time():
    read = []

    def batches():
        for number in range(3):
            read.append(number)
            yield A

    stream = sample_batches(batches(), ONE)
    next(stream)
    assert read == [0]


def test_only_the_slice_of_a_file_that_makes_a_batch_is_read():
    class File:
        shape, read = (100, 3), []

        def __getitem__(self, part):
            self.read.append(part)
            return np.zeros((part.stop - part.start, 3))

    file = File()
    assert len(next(sample_batches(file, ONE, 10))["x"]) == 10 and file.read == [slice(0, 10)]


def test_samples_of_different_sizes_stream_but_make_no_array():
    spec = CallSpec("x", (InputSpec("x", (None,), "float32"),))
    batches = [{"x": np.ones((2, 3))}, {"x": np.ones((2, 5))}]
    assert [batch["x"].shape for batch in sample_batches(batches, spec)] == [(2, 3), (2, 5)]
    with pytest.raises(ValueError, match=r"input 'x': expected batches of one shape, received \[\(3,\), \(5,\)\]"):
        sample_arrays(batches, spec)


def nan():
    x = A.copy()
    x[2, 1], x[3] = math.nan, math.inf
    return x


def distributed(x):
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(4)
    return tf.distribute.MirroredStrategy(["CPU:0"]).experimental_distribute_dataset(dataset)


BAD = {
    "a path": (ONE, lambda: "x.npy", TypeError, "expected arrays, or an iterable.*received str. .*numpy.load"),
    "a number": (ONE, lambda: 3, TypeError, "received int. Pass an array, .*a generator"),
    "nothing": (ONE, lambda: None, TypeError, "received NoneType"),
    "words": (ONE, lambda: np.array([["a", "b", "c"]]), TypeError, "'x' .dtype <U1.*numbers.*Turn words into numbers"),
    "objects": (ONE, lambda: np.array([[{}, 1, 2]]), TypeError, "dtype object"),
    "complex numbers": (ONE, lambda: A * 1j, TypeError, "dtype complex.*real numbers"),
    "ragged rows": (ONE, lambda: [[1, 2, 3], [1, 2]], ValueError, "'x' has rows of different lengths.*Pad them"),
    "ragged tensor": (ONE, lambda: tf.ragged.constant([[1.0, 2.0, 3.0], [1.0]]), TypeError, r"Pass x.to_tensor\(\)"),
    "NaN": (ONE, nan, ValueError, "input 'x': expected finite numbers, received 4 NaN or infinite values"),
    "NaN in the second batch": (ONE, lambda: iter([A, nan()]), ValueError, "received 4 NaN"),
    "no sample": (ONE, lambda: A[:0], ValueError, "expected at least one sample, received 0"),
    "no batch": (ONE, lambda: iter(()), ValueError, "expected at least one sample, received 0"),
    "empty batches": (ONE, lambda: iter([A[:0]]), ValueError, "expected at least one sample, received 0"),
    "no batch axis": (ONE, lambda: A[0], ValueError, r"expected shape \('samples', 3\), received \(3,\)\.$"),
    "not batched": (ONE, lambda: tf.data.Dataset.from_tensor_slices(A), ValueError, r"received \(3,\).*batch\(32\)"),
    "another shape": (ONE, lambda: A[:, :2], ValueError, r"'x': expected shape \('samples', 3\), received \(7, 2\)"),
    "another shape later": (ONE, lambda: iter([A, A[:, :2]]), ValueError, r"received \(7, 2\)"),
    "with targets": (ONE, lambda: (A, Y), ValueError, "one array .input 'x'.* tuple of 2.*without their targets"),
    "two for one": (ONE, lambda: [A, A], ValueError, "one array .input 'x'., received a list of 2 arrays"),
    "one for two": (TWO, lambda: [A], ValueError, r"a list of 2 arrays.*\['a', 'b'\], received 1 values"),
    "another name": (NAMED, lambda: {"a": A, "c": B}, ValueError, r"keys \['a', 'b'\], received \['a', 'c'\]"),
    "another batch": (TWO, lambda: iter([[A, B], A]), ValueError, "batch 1: expected a list of 2"),
    "counts": (TWO, lambda: [A, B[:3]], ValueError, "as many samples for every input, received {'a': 7, 'b': 3}"),
    "counts of a batch": (TWO, lambda: iter([[A, B[:3]]]), ValueError, "as many samples for every input"),
    "endless": (ONE, lambda: tf.data.Dataset.from_tensors(A).repeat(), ValueError, r"never ends. .*dataset.take\(16\)"),
    "distributed": (ONE, lambda: distributed(A), TypeError, "expected whole batches.*the tf.data.Dataset that was"),
    "endless PyDataset": (ONE, lambda: Batches([], None), ValueError, "never ends"),
}


def read_batches(data, spec):
    return list(sample_batches(data, spec))


@pytest.mark.parametrize("read", [sample_arrays, read_batches])
@pytest.mark.parametrize("spec, make, error, message", BAD.values(), ids=BAD)
def test_what_does_not_fit_is_named(spec, make, error, message, read):
    with pytest.raises(error, match="^calibration_data.*" + message):
        read(make(), spec)


def test_words_are_samples_of_an_input_that_takes_words():
    spec = CallSpec("text", (InputSpec("text", (1,), "string"),))
    words = np.array([["a"], ["bc"]])
    assert sample_arrays(words, spec)["text"].tolist() == [["a"], ["bc"]]
    assert not comes_in_batches(words, spec)


VERBS = {
    "quantize": lambda model, data: tg.quantize(model, tg.QuantizeConfig(calibration_data=data)),
    "convert": lambda model, data: tg.convert(model, tg.ConvertConfig(quantization="int8", calibration_data=data)),
    "correct_bias": tg.correct_bias,
    "check_calibration": tg.check_calibration,
    "recalibrate_batch_norm": lambda model, data: tg.recalibrate_batch_norm(model, data, batch_size=4),
    "prune": lambda model, data: tg.prune(
        model, schedule=tg.ConstantSparsity(0.5, begin_step=0), criterion="wanda", calibration_data=data
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_every_form_and_raises_the_same_errors(verb):
    model, x = zoo.residual(), zoo.sample("residual", 8)
    call = VERBS[verb]
    for data in (x, {"image": x}, tf.data.Dataset.from_tensor_slices((x, np.zeros(8))).batch(4), iter([x])):
        call(model, data)
    for data, error in ((x[..., :1], ValueError), (x * np.nan, ValueError), (x[:0], ValueError), ("x.npy", TypeError)):
        with pytest.raises(error, match="calibration_data"):
            call(model, data)


def test_a_model_called_with_several_arguments_is_read_by_keyword():
    class Sum(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.norm = keras.layers.BatchNormalization()

        def build(self, left_shape, right_shape):
            self.norm.build(left_shape)

        def call(self, left, right, training=None):
            return self.norm(left + right, training=training)

    model = Sum()
    model(A, A)
    data = {"left": A, "right": A}
    assert set(sample_arrays(data, read_call_spec(model))) == {"left", "right"}
    result = tg.recalibrate_batch_norm(model, data, batch_size=7)
    np.testing.assert_allclose(result.norm.moving_mean, 2 * A.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("make, call", [
    (tf.sparse.from_dense, "tf.sparse.to_dense(x)"),
    (tf.RaggedTensor.from_tensor, "x.to_tensor()"),
    (scipy.sparse.csr_matrix, "x.toarray()"),
])
def test_sparse_and_ragged_samples_are_refused_with_what_makes_arrays_of_them(make, call):
    x = make(A)
    for data in (x, [x], {"x": x}, iter([x])):
        with pytest.raises(TypeError, match=re.escape(f"received {type(x).__name__}. Pass {call}.")):
            sample_arrays(data, ONE)
    np.testing.assert_array_equal(sample_arrays(eval(call, {"x": x, "tf": tf}), ONE)["x"], A)


def test_a_mask_is_not_lost_without_a_word():
    x = np.ma.masked_greater(A, np.sort(A.ravel())[-2])
    for data in (x, [x], {"x": x}, iter([x])):
        with pytest.raises(TypeError, match=r"without masked values, received MaskedArray.*Pass x.filled\(number\)"):
            sample_arrays(data, ONE)
    np.testing.assert_array_equal(sample_arrays(x.filled(2.0), ONE)["x"], np.where(x.mask, 2.0, A))
    np.testing.assert_array_equal(sample_arrays(np.ma.array(A), ONE)["x"], A)  # nothing is masked


def test_symbolic_tensors_and_objects_are_refused():
    with pytest.raises(TypeError, match="received KerasTensor. Pass an array"):
        sample_arrays(keras.Input((3,)), ONE)
    with pytest.raises(TypeError, match="Pass x.astype"):
        sample_arrays(A.astype(object), ONE)
    np.testing.assert_array_equal(sample_arrays(A.astype(object).astype("float32"), ONE)["x"], A)
