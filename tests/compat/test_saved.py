"""Files of TFMOT's in the scopes that its code opens: the error says how they are loaded."""

from __future__ import annotations

import keras
import pytest

import tfgreen.compat as tfmot

SCOPES = {
    "PruneLowMagnitude": tfmot.sparsity.keras.prune_scope,
    "ClusterWeights": tfmot.clustering.keras.cluster_scope,
    "QuantizeLayer": tfmot.quantization.keras.quantize_scope,
    "QuantizeWrapperV2": tfmot.quantization.keras.quantize_scope,
}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", SCOPES)
def test_a_layer_that_tfmot_has_wrapped_is_answered(name, tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    old = type(name, (tf_keras.layers.Dense,), {})
    tf_keras.Sequential([tf_keras.Input((3,)), old(2)]).save(tmp_path / "old.h5")
    with SCOPES[name](), pytest.raises(ValueError, match=f"{name}: expected a model of Keras 3.*tg.load_model"):
        keras.models.load_model(tmp_path / "old.h5")


def test_classes_of_ones_own_come_before():
    class QuantizeLayer(keras.layers.Layer):
        pass

    with tfmot.quantization.keras.quantize_scope({"QuantizeLayer": QuantizeLayer}):
        assert keras.saving.get_registered_object("QuantizeLayer") is QuantizeLayer
