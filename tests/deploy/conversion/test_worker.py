"""The process of a conversion that may crash: what it leaves in the folder."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from tests.zoo import ZOO, sample
from tfgreen.deploy.conversion import converter
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.export import export
from tfgreen.deploy.conversion.record import read
from tfgreen.deploy.conversion.worker import main
from tfgreen.deploy.litert_model import LiteRTModel


def test_it_leaves_the_file_that_its_settings_and_samples_ask_for(tmp_path, capfd):
    data = sample("multi_io", 16)
    conversion = export(
        read(ZOO["multi_io"](), ConvertConfig(quantization="int8", calibration_data=data)), tmp_path
    )
    np.savez(tmp_path / converter.CALIBRATION, *conversion.samples.values())
    main(str(tmp_path), dataclasses.asdict(converter.ConverterSettings("int8", output_dtype="int8")))
    lite = LiteRTModel((tmp_path / converter.RESULT).read_bytes())
    assert {tensor.dtype for tensor in lite.outputs} == {"int8"} and not lite.float_operators
    assert not (tmp_path / converter.FAILURE).exists()
    assert converter.STARTED in capfd.readouterr().err


def test_it_leaves_the_reason_where_the_converter_refuses(tmp_path):
    inputs = keras.Input((4, 4))
    export(read(keras.Model(inputs, keras.ops.linalg.cholesky(inputs)), ConvertConfig()), tmp_path)
    main(str(tmp_path), {"quantization": "float32"})
    assert "TF Select ops: Cholesky" in (tmp_path / converter.FAILURE).read_text()
    assert not (tmp_path / converter.RESULT).exists()
