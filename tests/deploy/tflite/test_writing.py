"""write: one file, whatever of it is equal stored once, and read as before."""

from __future__ import annotations

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

import tfgreen as tg
from tests.deploy import cases
from tfgreen.deploy.tflite.flatbuffer import constant, parse, set_constant
from tfgreen.deploy.tflite.writing import write


def recurrent(steps: int) -> tg.LiteRTModel:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((steps, 3)), keras.layers.SimpleRNN(4, name="rnn"), keras.layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(16, steps, 3)).astype("float32")
    return tg.convert(model, quantization="int8", calibration_data=x)


def test_a_recurrent_file_grows_with_the_steps_and_not_with_their_square():
    small, large = recurrent(10), recurrent(40)
    assert large.size_bytes < 4 * small.size_bytes
    assert large.size_bytes < 2000 + 40 * 1024
    note = next(note for note in large.notes if note.startswith("Unrolled"))
    assert "40 steps of 'rnn'" in note and "bytes are no weights" in note


def test_equal_data_is_one_buffer_until_one_of_it_is_set():
    values = np.arange(6, dtype=np.float32)
    tensors = [schema.TensorT(np.int32([6]), 0, number, name=b"%d" % number) for number in (1, 2, 3)]
    tensors.append(schema.TensorT(np.int32([6]), 0, 4, name=b"activation"))
    data = [None, values, values.copy(), values + 1, None]
    buffers = [schema.BufferT(None if item is None else item.view(np.uint8)) for item in data]
    graph = schema.SubGraphT(tensors, np.int32([3]), np.int32([3]), [])
    found = parse(write(schema.ModelT(3, [], [graph], b"", buffers)), "model")
    one, same, other, activation = found.subgraphs[0].tensors
    assert one.buffer == same.buffer != other.buffer and activation.buffer == 0 and len(found.buffers) == 3
    set_constant(found, found.subgraphs[0], same, values * 2)
    again = parse(write(found), "model")
    for tensor, expected in zip(again.subgraphs[0].tensors, (values, values * 2, values + 1)):
        np.testing.assert_array_equal(constant(again, tensor), expected)


def test_scales_and_metadata_stay_what_they_are():
    lite = cases.artifact("residual", "int8-io")
    again = tg.LiteRTModel(write(parse(lite.content, "model")))
    assert again.metadata == lite.metadata and again.size_bytes <= lite.size_bytes
    for one, other in zip(lite.parsed.subgraphs[0].tensors, again.parsed.subgraphs[0].tensors, strict=True):
        for key in ("scale", "zeroPoint"):
            np.testing.assert_array_equal(getattr(one.quantization, key), getattr(other.quantization, key))
