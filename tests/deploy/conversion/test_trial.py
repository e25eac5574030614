"""A file on which LiteRT's runtime crashes is an error that names the operator, and the process lives."""

from __future__ import annotations

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg


def crashing() -> tuple[keras.Model, np.ndarray]:
    """A dead layer between other operators: XNNPACK refuses it, and then frees twice what it had made."""
    inputs = keras.Input((6,))
    largest = keras.ops.max(inputs, 1, keepdims=True)
    dead = layers.Dense(1, "relu", kernel_initializer=keras.initializers.Constant(-1.0), name="dead")(largest)
    model = keras.Model(inputs, layers.ELU()(layers.ELU()(dead) + largest))
    return model, np.random.default_rng(0).random((32, 6), np.float32)


def test_a_crash_names_the_operator_and_a_remedy_that_works(monkeypatch):
    model, x = crashing()
    monkeypatch.setattr(importlib.import_module("tfgreen.deploy.conversion.finish"), "mend_scales", lambda file: [])
    with pytest.raises(tg.ConversionError, match=r"crashes on the file \(signal 6\), at FULLY_CONNECTED of dead.*dead"):
        tg.convert(model, quantization="int8", calibration_data=x)
    lite = tg.convert(model, quantization="int8", calibration_data=x, keep_float=["dead"])
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0)).mean() < 0.01


def test_what_makes_it_crash_is_not_in_the_file():
    model, x = crashing()
    lite = tg.convert(model, quantization="int8", calibration_data=x)
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0)).mean() < 0.01
    assert any("['dead'] return 0 on all calibration data" in note for note in lite.notes)


class Totals(layers.Layer):
    """A loop over samples. The converter takes one body for the loops of two such layers, whatever their widths."""

    def call(self, x, segments):
        def one(parts):
            return tf.math.unsorted_segment_sum(*parts, 4)

        return tf.map_fn(one, (x, segments), fn_output_signature=tf.float32)


def test_a_float_file_that_cannot_run_names_the_outermost_layer():
    x, segments = keras.Input((6, 5)), keras.Input((6,), dtype="int32")
    wide = layers.Dense(16)(layers.ReLU()(Totals(name="totals")(x, segments)))
    model = keras.Model([x, segments], Totals(name="more")(wide, keras.ops.mod(segments, 4)[:, :4]))
    with pytest.raises(tg.ConversionError, match=r"a file that cannot run: layers \['totals'\] need WHILE"):
        tg.convert(model)
