"""The last step: names, metadata, notes, and what is refused though TensorFlow converted it."""

from __future__ import annotations

import dataclasses

import pytest

from tests.zoo import ZOO
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.converter import RESULT, ConverterSettings, run_converter
from tfgreen.deploy.conversion.export import export
from tfgreen.deploy.conversion.finish import finish
from tfgreen.deploy.conversion.record import read
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
    assert "Operators that compute in float32" in finish(as_int8, folder).notes[-1]
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
