"""Files of models that TFMOT has wrapped come back as its strip functions leave them."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.model.keras2.tfmot import baked, unwrapped

DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "head", "units": 2, "activation": "relu"}}
AWARE = {"class_name": "QuantizeAwareActivation", "config": {"activation": "tanh"}, "registered_name": "x"}
NONE = {"class_name": "QuantizeAwareActivation", "config": {"activation": {"class_name": "NoOpActivation"}}}


@pytest.mark.parametrize("kind", ["PruneLowMagnitude", "ClusterWeights", "QuantizeWrapperV2"])
@pytest.mark.parametrize(
    ("written", "activation"), [("relu", "relu"), (AWARE, "tanh"), (NONE, "linear")], ids=["plain", "tanh", "none"]
)
def test_the_layer_inside_stands_in_the_place_of_the_wrapper(kind, written, activation):
    layer = {**DENSE, "config": {**DENSE["config"], "activation": written}}
    entry = {"class_name": kind, "config": {"name": "outer", "layer": layer}, "name": "outer", "inbound_nodes": [1]}
    wrapped: dict[str, str] = {}
    found = unwrapped({"class_name": "Functional", "config": {"layers": [entry]}}, wrapped)["config"]["layers"][0]
    assert wrapped == {"outer": "head"}
    assert (found["class_name"], found["name"], found["inbound_nodes"]) == ("Dense", "outer", [1])
    assert found["config"]["activation"] == activation


def test_the_rounding_of_an_input_becomes_an_identity():
    wrapped: dict[str, str] = {}
    found = unwrapped({"class_name": "QuantizeLayer", "config": {"name": "q", "quantizer": {}}}, wrapped)
    assert found["class_name"] == "Activation" and found["config"]["activation"] == "linear" and wrapped == {"q": ""}


def test_masks_and_centroids_are_baked_into_the_weights_they_belong_to():
    ones = np.ones((2, 2))
    masks = [np.array([[1, 0], [0, 1]]), np.array([[0, 0], [1, 1]])]
    arrays = [
        ("cell/kernel:0", ones), ("cell/recurrent_kernel:0", 2 * ones), ("outer/mask:0", masks[0]),
        ("outer/threshold:0", np.ones(())), ("outer/mask_1:0", masks[1]), ("outer/pruning_step:0", np.ones(())),
    ]
    found = baked(arrays, {"outer": "cell"})
    assert [name for name, _ in found] == ["cell/kernel:0", "cell/recurrent_kernel:0"]
    np.testing.assert_array_equal([array for _, array in found], [masks[0], 2 * masks[1]])

    kernel = np.array([[0.1, 0.9], [0.6, -0.3]])
    tables = {"one": np.array([0.0, 1.0]), "channels": np.array([[0.0, 1.0], [-1.0, 0.5]])}
    expected = {"one": [[0.0, 1.0], [1.0, 0.0]], "channels": [[0.0, 0.5], [1.0, -1.0]]}
    for name, table in tables.items():
        arrays = [
            ("head/kernel:0", kernel), ("outer/cluster_centroids_kernel:0", table),
            ("outer/pulling_indices_kernel:0", np.zeros((2, 2))),
        ]
        np.testing.assert_array_equal(baked(arrays, {"outer": "head"})[0][1], expected[name])
        # Cluster-preserving quantization names no weight, and keeps the number of each shared value.
        numbers = np.array([[0, 1], [1, 0]])
        arrays = [
            ("head/bias:0", np.zeros(2)), ("head/kernel:0", kernel), ("outer/cluster_centroids_tf:0", table),
            ("outer/ori_weights_vars_tf:0", kernel), ("outer/pulling_indices_tf:0", numbers),
            ("outer/kernel_min:0", np.zeros(())),
        ]
        found = baked(arrays, {"outer": "head"})
        assert [name for name, _ in found] == ["head/bias:0", "head/kernel:0"]
        np.testing.assert_array_equal(found[1][1], expected[name])


def test_weights_of_a_layer_that_was_wrapped_without_any_are_in_the_place_of_the_wrappers():
    kernel, mask = np.array([[1.0, 2.0]]), np.array([[0.0, 1.0]])
    arrays = [("wrap/kernel:0", kernel), ("wrap/mask:0", mask), ("wrap/pruning_step:0", np.array(1))]
    ((name, array),) = baked(arrays, {"wrap": "dense"})
    assert name == "dense/kernel:0" and array.tolist() == [[0.0, 2.0]]
    ((name, array),) = baked([("note/cell/kernel:0", kernel)], {"note": "lstm"})
    assert name == "lstm/cell/kernel:0" and array is kernel
    assert baked([("quantize_layer/quantize_layer_min:0", np.array(0.0))], {"quantize_layer": ""}) == []


def test_a_keras_file_of_tfmot_says_how_it_is_saved_again(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "PruneLowMagnitude"}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
    with pytest.raises(tg.FileError, match=r"TFMOT has wrapped.*prune_scope.*save it as .h5"):
        tg.load_model(path)


CODE = """
import sys, numpy as np, tensorflow, tensorflow_model_optimization as tfmot, tf_keras
L = tf_keras.layers
x = np.random.default_rng(0).normal(size=(64, 8, 4)).astype("float32")
def net():
    inputs = tf_keras.Input((8, 4), name="x")
    y = L.Dense(16, name="wide")(L.Flatten()(inputs))
    return tf_keras.Model(inputs, L.Dense(2, activation="tanh", name="head")(L.ReLU(name="act")(y)))
made = {
    "pruned": tfmot.sparsity.keras.prune_low_magnitude(net(), tfmot.sparsity.keras.ConstantSparsity(0.5, 0, -1, 1)),
    "clustered": tfmot.clustering.keras.cluster_weights(net(), 3),
    "quantized": tfmot.quantization.keras.quantize_model(net()),
}
combine, qk = tfmot.experimental.combine, tfmot.quantization.keras
shared = qk.quantize_annotate_model(tfmot.clustering.keras.strip_clustering(made["clustered"]))
made["cqat"] = qk.quantize_apply(shared, combine.Default8BitClusterPreserveQuantizeScheme())
for name, model in made.items():
    model.compile("adam", "mse")
    callbacks = [tfmot.sparsity.keras.UpdatePruningStep()] if name == "pruned" else []
    model.fit(x, x[:, 0, :2], verbose=0, callbacks=callbacks)
    model.save(f"{sys.argv[1]}/{name}.h5")
    np.save(f"{sys.argv[1]}/{name}.npy", model.predict(x, verbose=0))
np.save(f"{sys.argv[1]}/x.npy", x)
"""


@pytest.mark.slow
def test_what_tfmot_saves_predicts_the_same(tmp_path):
    subprocess.run([sys.executable, "-W", "ignore", "-c", CODE, str(tmp_path)], check=True, capture_output=True)
    x = np.load(tmp_path / "x.npy")
    for name, tolerance in (("pruned", 1e-5), ("clustered", 1e-5), ("quantized", 0.2), ("cqat", 0.2)):  # of 8 bits
        with pytest.warns(UserWarning, match="TFMOT has wrapped layers of this model"):
            model = tg.load_model(tmp_path / f"{name}.h5")
        np.testing.assert_allclose(model.predict(x, verbose=0), np.load(tmp_path / f"{name}.npy"), atol=tolerance)
        kernel = keras.ops.convert_to_numpy(model.get_layer("head").kernel)
        assert name != "pruned" or (kernel == 0).mean() == 0.5
        assert name not in ("clustered", "cqat") or len(np.unique(kernel)) == 3
