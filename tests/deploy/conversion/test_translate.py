"""What the converter is asked for, and what its errors mean."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tests.zoo import ZOO, sample
from tfgreen.deploy.conversion import translate as module
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.export import export
from tfgreen.deploy.conversion.record import read
from tfgreen.deploy.conversion.translate import reason_by_layer, translate
from tfgreen.errors import ConversionError, InvalidValueError

CALLS = ("stem", "block/pool", "head")


@pytest.mark.parametrize(
    "reason, sentence",
    [
        ("TF Select ops: AvgPool3D\nat call.1/pool", "layers ['block/pool'] need AvgPool3D, for which LiteRT"),
        ("Custom ops: Odd, Other", "it needs Odd, Other, for which LiteRT has no operator. Compute it outside of"),
        ("call.0/x 'tf.Odd' op is neither a custom op nor a flex op", "layers ['stem'] need Odd, for which LiteRT has"),
        ("Node number 3 (CONV_2D) failed to prepare", "TensorFlow's calibration cannot run CONV_2D: Node number 3"),
        ("bad call.2/a and call.0/b and call.9/c", "layers ['stem', 'head']: bad call.2/a"),
        ("no idea", "no idea"),
    ],
)
def test_a_known_reason_becomes_a_sentence_that_names_the_layers(reason, sentence):
    assert reason_by_layer(reason, CALLS).startswith(sentence)


def test_only_what_flex_could_run_is_said_to_need_it():
    said = reason_by_layer("TF Select ops: A", CALLS)
    assert "ConvertConfig(flex=True)" in said and "Python's interpreters do not" in said
    assert "flex" not in reason_by_layer("TF Select ops: A\nCustom ops: B", CALLS)


def asked(monkeypatch, tmp_path, model, **options):
    """What the converter is told, without running it."""
    seen = []
    monkeypatch.setattr(module, "run_converter", lambda folder, settings, samples: seen.append((settings, samples)))
    conversion = translate(export(read(model, ConvertConfig(**options)), tmp_path), tmp_path)
    return conversion, *seen[0]


def test_int4_is_asked_for_as_int8_and_layers_in_float_get_no_samples(monkeypatch, tmp_path):
    model, data = ZOO["functional"](), sample("functional", 16)
    conversion, settings, samples = asked(monkeypatch, tmp_path, model, quantization="int4", calibration_data=data)
    assert settings.quantization == "int8" and len(samples) == 1 and not conversion.notes
    options = {"quantization": "int8", "calibration_data": data, "keep_float": ("hidden",)}
    _, settings, samples = asked(monkeypatch, tmp_path / "kept", model, **options)
    assert samples is None and not settings.one_dense_scale
    assert asked(monkeypatch, tmp_path / "float", model, quantization="float16")[2] is None


def test_ranges_must_come_from_somewhere(tmp_path):
    model, data = ZOO["functional"](), sample("functional", 64)
    for quantization in ("int8", "int16x8"):
        with pytest.raises(InvalidValueError, match="to see the ranges of its activations"):
            translate(export(read(model, ConvertConfig(quantization=quantization)), tmp_path), tmp_path)
    quantized = tg.quantize(model, tg.QuantizeConfig(calibration_data=data))
    conversion = read(quantized, ConvertConfig(quantization="int16x8"))
    with pytest.raises(InvalidValueError, match="expected a model trained with activation_bits=16"):
        translate(export(conversion, tmp_path), tmp_path)


def test_the_error_of_a_loop_that_crashes_says_what_to_try(monkeypatch, tmp_path):
    def crash(folder, settings, samples):
        raise ConversionError("it crashed.")

    monkeypatch.setattr(module, "run_in_worker", crash)
    conversion = read(ZOO["lstm"](), ConvertConfig(quantization="int8", calibration_data=sample("lstm", 16)))
    with pytest.raises(ConversionError, match="it crashed.\nIt runs loops .*Try quantization='dynamic'"):
        translate(export(conversion, tmp_path), tmp_path)


def test_samples_that_trained_ranges_do_not_go_with_are_to_be_left_out(monkeypatch, tmp_path):
    def refuse(folder, settings, samples):
        raise ConversionError("RuntimeError")

    model, data = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]), np.ones((16, 8), "float32")
    quantized = tg.quantize(model, tg.QuantizeConfig(calibration_data=data))
    monkeypatch.setattr(module, "run_converter", refuse)
    for samples in (data, None):
        conversion = read(quantized, ConvertConfig(quantization="int8", calibration_data=samples))
        with pytest.raises(ConversionError) as caught:
            translate(export(conversion, tmp_path), tmp_path)
        assert ("leave calibration_data out" in str(caught.value)) == (samples is not None)


@pytest.mark.parametrize("quantization", ["float32", "int8"])
def test_what_makes_float64_of_a_model_is_named(quantization):
    inputs = keras.Input((4,))
    scaled = keras.layers.Dense(4)(inputs) / np.sqrt(8.0)
    model, x = keras.Model(inputs, keras.layers.Softmax(dtype="float64")(scaled)), np.ones((8, 4), "float32")
    options = {"calibration_data": x} if quantization == "int8" else {}
    with pytest.raises(ConversionError, match="'true_divide.*' makes float64 numbers.* a Python float"):
        tg.convert(model, quantization=quantization, **options)


def test_words_are_looked_up_before_the_model_with_samples_too():
    words = keras.layers.TextVectorization(vocabulary=["good", "bad"], output_sequence_length=3, name="words")
    body = [words, keras.layers.Embedding(5, 4), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((), dtype="string"), *body])
    for texts in (np.array(["good", "not bad"]), tf.constant(["good", "not bad"])):
        with pytest.raises(ConversionError, match=r"\['words'\] look words or numbers up in a table"):
            tg.convert(model, quantization="int8", calibration_data=texts)
