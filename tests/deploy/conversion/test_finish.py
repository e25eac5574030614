"""The last step: names, metadata, notes, and what is refused though TensorFlow converted it."""

from __future__ import annotations

import dataclasses
import re

import keras
import numpy as np
import pytest

from tests.zoo import ZOO
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.converter import RESULT, ConverterSettings, run_converter
from tfgreen.deploy.conversion.export import export
from tfgreen.deploy.conversion.finish import finish
from tfgreen.deploy.conversion.record import read
from tfgreen.deploy.convert import convert
from tfgreen.errors import ConversionError
from tfgreen.version import __version__


@pytest.fixture
def converted(tmp_path):
    """A conversion of two inputs and outputs, and the folder with its float32 file."""
    conversion = export(read(ZOO["multi_io"](), ConvertConfig(labels=("a", "b"))), tmp_path)
    run_converter(tmp_path, ConverterSettings("float32"), None)
    return dataclasses.replace(conversion, notes=("First.",)), tmp_path


def test_the_file_bears_the_names_of_the_model_and_what_only_tfgreen_knows(converted):
    conversion, folder = converted
    lite = finish(conversion, folder)
    assert [tensor.name for tensor in lite.inputs] == ["image", "meta"] and lite.notes == ("First.",)
    assert lite.output_structure == {"label": "label", "size": "size"}
    assert lite.metadata["tfgreen"] == __version__ and lite.metadata["source_sha256"] == conversion.source
    assert lite.metadata["labels"] == ["a", "b"]
    assert {"label", "size"} <= {layer for row in lite.audit.operators for layer in row.layers}
    assert not any("call." in name for name in lite.weights)


def test_image_layers_without_an_operator_are_noted(converted):
    conversion, folder = converted
    calls = (*conversion.traced.calls, "flip")
    traced = dataclasses.replace(conversion.traced, image_layers=frozenset({"flip"}), calls=calls)
    notes = finish(dataclasses.replace(conversion, traced=traced), folder).notes
    assert notes == ("First.", "Image layers that do nothing in inference, left out: ['flip'].")


def test_a_float_file_is_no_integer_file(converted):
    conversion, folder = converted
    as_int8 = dataclasses.replace(conversion, config=ConvertConfig(quantization="int8"))
    note = finish(as_int8, folder).notes[-1]
    assert "Operators that compute in float32" in note and "'CONV_2D'" in note and "of layers ['conv" in note
    strict = dataclasses.replace(conversion, config=ConvertConfig(quantization="int8", strict=True))
    with pytest.raises(ConversionError, match="model 'multi_io_net': strict=True, but .* compute in float32: CONV_2D"):
        finish(strict, folder)
    as_int4 = dataclasses.replace(conversion, config=ConvertConfig(quantization="int4"))
    with pytest.raises(ConversionError, match="'multi_io_net' cannot be converted with quantization='int4': .*4 bits"):
        finish(as_int4, folder)


def test_a_file_is_read_from_the_folder(converted):
    conversion, folder = converted
    (folder / RESULT).unlink()
    with pytest.raises(FileNotFoundError):
        finish(conversion, folder)


def test_a_dynamic_file_is_dynamic_or_says_that_it_is_plain():
    ids = keras.Input((5,), dtype="int32", name="ids")
    looked_up = keras.layers.Flatten()(keras.layers.Embedding(50, 40)(ids))
    for outputs in (looked_up, keras.layers.Dense(8)(looked_up)):
        lite = convert(keras.Model(ids, outputs), quantization="dynamic")
        assert lite.quantization == "dynamic" and "dynamic-range (weights int8, activations float)" in repr(lite)
    small = convert(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), quantization="dynamic")
    assert small.quantization == "float32" and "The file is float32: no weight has the 1024" in small.notes[0]


def test_half_precision_is_called_by_its_name():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="mixed_bfloat16", name="out")])
    assert convert(model).notes == ("Computed in float32 instead of bfloat16: layers ['out'].",)
    with pytest.raises(ValueError, match=r"input_dtype: expected 'float32' or 'int8', received 'uint8'.*less 128"):
        convert(model, quantization="int8", calibration_data=np.ones((8, 4)), input_dtype="uint8")


@pytest.mark.parametrize("labels, fit", [(3, True), (2, False), (4, False)])
def test_labels_are_as_many_as_the_classes(labels, fit):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax", name="class")])
    names = [f"class {number}" for number in range(labels)]
    if fit:
        assert convert(model, labels=names).metadata["labels"] == names
    else:
        with pytest.raises(ValueError, match=rf"labels: expected one for each class.*\(1, 3\).*received {labels}"):
            convert(model, labels=names)


def test_two_labels_are_those_of_one_probability_and_any_number_those_of_a_class():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
    assert convert(model, labels=["no", "yes"]).metadata["labels"] == ["no", "yes"]
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.argmax(keras.layers.Dense(5)(inputs), axis=-1))
    assert len(convert(model, labels=list("abcde")).metadata["labels"]) == 5


def test_labels_of_an_output_whose_last_axis_is_open_are_taken_as_they_are():
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(1, "sigmoid"), keras.layers.Flatten()])
    assert len(convert(model, labels=["no", "yes"]).metadata["labels"]) == 2


def test_float_operators_of_no_layer_are_named_by_their_tensors():
    inputs = keras.Input((8,), dtype="uint8")
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.ops.cast(inputs, "float32")))
    x = np.random.default_rng(0).integers(0, 255, (64, 8)).astype("uint8")
    (note,) = convert(model, quantization="int8", calibration_data=x).notes
    assert re.search(r"\['CAST'\] of tensors \['.*Cast'\]", note)
