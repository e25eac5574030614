"""A quantized layer has the config that it was quantized by."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen import compat as tfmot
from tfgreen.compat.quantize_config import DefaultQuantizeConfig
from tfgreen.compat.wrappers.quantized import Quantized

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
qk = tfmot.quantization.keras
X = np.random.default_rng(0).normal(size=(32, 10)).astype("float32")


class OnlyKernel(qk.QuantizeConfig):
    def get_weights_and_quantizers(self, layer):
        return [(layer.kernel, qk.quantizers.LastValueQuantizer(8, True, True, False))]

    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_weights(self, layer, quantize_weights):
        """Nothing."""

    def set_quantize_activations(self, layer, quantize_activations):
        """Nothing."""

    def get_output_quantizers(self, layer):
        """Nothing: TFMOT takes None for no quantizers."""

    def get_config(self):
        return {}


def annotated(config: object = None) -> keras.Model:
    marked = qk.quantize_annotate_layer(layers.Dense(4, name="marked"), config)
    return keras.Sequential([keras.Input((10,)), layers.Dense(8, name="plain"), marked])


def test_a_config_of_the_users_is_kept_through_a_file(tmp_path):
    given = OnlyKernel()
    model = qk.quantize_apply(annotated(given))
    layer = model.get_layer("marked")
    assert isinstance(layer, Quantized) and layer.quantize_config is given
    model.compile("sgd", "mse")
    model.fit(X, X[:, :4], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    loaded.save(tmp_path / "again.keras")  # its class is not asked for
    with qk.quantize_scope({"OnlyKernel": OnlyKernel}):
        loaded = keras.saving.load_model(tmp_path / "again.keras")
        assert isinstance(loaded.get_layer("marked").quantize_config, OnlyKernel)


def test_other_layers_have_that_of_the_scheme():
    scheme = qk.experimental.default_n_bit.DefaultNBitQuantizeScheme(num_bits_weight=4, num_bits_activation=6)
    config = qk.quantize_apply(annotated(), scheme).get_layer("marked").quantize_config
    assert config == DefaultQuantizeConfig(num_bits_weight=4, num_bits_activation=6)


def test_stripping_clusters_keeps_it():
    combine, clustering = tfmot.experimental.combine, tfmot.clustering.keras
    clustered = clustering.strip_clustering(clustering.cluster_weights(plain(), 4))
    model = qk.quantize_apply(
        qk.quantize_annotate_model(clustered), combine.Default8BitClusterPreserveQuantizeScheme(False)
    )
    stripped = combine.strip_clustering_cqat(model)
    assert isinstance(stripped.layers[0], Quantized) and stripped.layers[0].quantize_config == DefaultQuantizeConfig()


def plain() -> keras.Model:
    return keras.Sequential([keras.Input((10,)), layers.Dense(8)])
