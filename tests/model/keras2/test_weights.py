"""Weights of an .h5 file find their variable by name, by order where names do not tell, and are checked."""

from __future__ import annotations

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.errors import FileError
from tfgreen.model.keras2.weights import load_keras2_weights


def write(path, weights):
    """An .h5 file as Keras 2 writes it: ``weights`` holds for each layer the names and values of its weights."""
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for layer, values in weights.items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = [name.encode() for name in values]
            for name, value in values.items():
                inner[name] = value
    return path


def load(model, path):
    with h5py.File(path, "r") as file:
        load_keras2_weights(model, file["model_weights"], {})


def model(*stack):
    return keras.Sequential([keras.Input((3,)), *stack])


def test_weights_are_found_by_name_whatever_their_order(tmp_path):
    net = model(layers.Dense(2, name="d"))
    values = {"d/bias:0": np.array([1.0, 2.0]), "d/kernel:0": np.arange(6.0).reshape(3, 2), "d/StateVar:0": 1}
    load(net, write(tmp_path / "m.h5", {"d": values}))
    np.testing.assert_array_equal(net.layers[0].kernel, np.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(net.layers[0].bias, [1.0, 2.0])


def test_a_layer_whose_name_keras_3_refuses_is_found(tmp_path):
    net = model(layers.Dense(2, name="a_b"))
    load(net, write(tmp_path / "m.h5", {"a/b": {"a/b/kernel:0": np.ones((3, 2)), "a/b/bias:0": np.ones(2)}}))
    np.testing.assert_array_equal(net.layers[0].bias, [1.0, 1.0])


def test_names_that_do_not_tell_go_by_their_order(tmp_path):
    net = model(layers.Dense(2, name="d"))
    load(net, write(tmp_path / "m.h5", {"d": {"w:0": np.ones((3, 2)), "v:0": np.zeros(2)}}))
    np.testing.assert_array_equal(net.layers[0].kernel, np.ones((3, 2)))


def test_a_list_of_names_that_hdf5_cut_into_parts_is_joined(tmp_path):
    net, path = model(layers.Dense(2, name="d")), tmp_path / "m.h5"
    write(path, {"d": {"d/kernel:0": np.ones((3, 2)), "d/bias:0": np.ones(2)}})
    with h5py.File(path, "a") as file:
        attributes = file["model_weights/d"].attrs
        del attributes["weight_names"]
        attributes["weight_names0"], attributes["weight_names1"] = [b"d/kernel:0"], ["d/bias:0"]
    load(net, path)
    np.testing.assert_array_equal(net.layers[0].bias, [1.0, 1.0])


def test_a_normalization_computes_with_the_statistics_of_the_file(tmp_path):
    net = model(layers.Normalization(name="n"))
    values = {"mean:0": np.full(3, 2.0), "variance:0": np.full(3, 4.0), "count:0": 5}
    load(net, write(tmp_path / "m.h5", {"n": values}))
    np.testing.assert_allclose(net(np.full((1, 3), 6.0)), np.full((1, 3), 2.0))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"d/kernel:0": np.ones((3, 2))}, r"layer 'd' \(Dense\): expected 2 weights in the file, received 1"),
        ({"d/kernel:0": np.ones((2, 2)), "d/bias:0": np.ones(2)}, r"expected shape \(3, 2\).*received \(2, 2\)"),
    ],
)
def test_weights_of_another_model_are_refused(values, message, tmp_path):
    with pytest.raises(FileError, match=message):
        load(model(layers.Dense(2, name="d")), write(tmp_path / "m.h5", {"d": values}))
