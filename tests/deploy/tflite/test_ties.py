"""Weights that a file holds once, or says that it holds twice."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.transforms.test_ties import net
from tfgreen.deploy.tflite.flatbuffer import buffer_bytes, parse
from tfgreen.deploy.tflite.ties import repeated, share_buffers

WORDS, UNITS = 120, 24
TOKENS = np.random.default_rng(0).integers(0, WORDS, (64, 5)).astype("int32")


def tied(kind: str) -> keras.Model:
    return net(kind, WORDS, UNITS)


def copies(lite: tg.LiteRTModel, size: int) -> int:
    """How many buffers of at least so many bytes a file has."""
    file = parse(lite.content, "file")
    return len({t.buffer for g in file.subgraphs for t in g.tensors if len(buffer_bytes(file, t)) >= size})


@pytest.mark.parametrize("kind", ["layer", "reversible"])
@pytest.mark.parametrize("quantization", ["float32", "dynamic", "int8"])
def test_a_table_that_is_also_multiplied_is_stored_once(kind, quantization):
    model = tied(kind)
    lite = tg.convert(model, quantization=quantization, calibration_data=TOKENS if quantization == "int8" else None)
    assert copies(lite, WORDS * UNITS) == 1
    assert tg.verify(model, lite, TOKENS).passed
    expected = model.predict(TOKENS, verbose=0)
    assert np.abs(lite.predict(TOKENS) - expected).mean() < 0.02 * expected.std()


def test_a_file_trained_to_be_quantized_holds_the_table_once_in_integers():
    quantized = tg.quantize(tied("layer"), calibration_data=TOKENS)
    lite = tg.convert(quantized, quantization="int8")
    assert copies(lite, WORDS * UNITS) == 1 and not lite.float_operators
    assert tg.verify(quantized, lite, TOKENS).passed


def test_weights_that_are_stored_transposed_too_are_told_with_the_bytes():
    for quantization, data, width in (("float32", None, 4), ("int8", TOKENS, 1)):
        lite = tg.convert(tied("transposed"), quantization=quantization, calibration_data=data)
        note = next(note for note in lite.notes if "stored twice" in note)
        assert "'code'" in note and "'back'" in note and f"{100 * UNITS * width:,} bytes" in note


def test_other_weights_are_not_taken_for_copies():
    model = keras.Sequential([keras.Input((64,)), *(layers.Dense(64) for _ in range(3))])
    file = parse(tg.convert(model).content, "file")
    assert not list(repeated(file))
    before = [buffer_bytes(file, tensor).tobytes() for tensor in file.subgraphs[0].tensors]
    share_buffers(file)
    assert [buffer_bytes(file, tensor).tobytes() for tensor in file.subgraphs[0].tensors] == before


def test_the_steps_of_an_unrolled_layer_share_their_weights():
    model = keras.Sequential([keras.Input((6, 8)), layers.LSTM(32, unroll=True)])
    x = np.random.default_rng(0).normal(size=(64, 6, 8)).astype("float32")
    for quantization in ("float32", "int8"):
        lite = tg.convert(model, quantization=quantization, calibration_data=x if quantization == "int8" else None)
        assert copies(lite, 8 * 32) <= 8  # four gates of two kernels
