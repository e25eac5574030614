"""Schemes stand for settings of tg.quantize; the default config says what it does."""

from __future__ import annotations

import keras
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.compat import experimental, quantization
from tfgreen.compat.quantize_config import DefaultQuantizeConfig

qk, combine = quantization.keras, experimental.combine
N = qk.experimental.default_n_bit


@pytest.mark.parametrize(
    ("scheme", "settings"),
    [
        (qk.default_8bit.Default8BitQuantizeScheme(), {}),
        (qk.default_8bit.Default8BitQuantizeScheme(disable_per_axis=True), {"weight_granularity": "per_tensor"}),
        (N.DefaultNBitQuantizeScheme(num_bits_weight=4), {"weight_bits": 4, "activation_bits": 8}),
        (qk.collab_opts.Default8BitPrunePreserveQuantizeScheme(), {"preserve_sparsity": True}),
        (combine.Default8BitPrunePreserveQuantizeScheme(), {"preserve_sparsity": True}),
        (
            combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=False),
            {"preserve_clusters": True, "preserve_sparsity": False},
        ),
    ],
    ids=["8 bits", "per tensor", "n bits", "pruned", "pruned, too", "clustered"],
)
def test_what_a_scheme_stands_for(scheme, settings):
    assert scheme.settings() == settings
    tg.QuantizeConfig(**settings)
    assert isinstance(scheme, qk.QuantizeScheme) and scheme.get_quantize_registry().supports(layers.Dense(2))
    with pytest.raises(ValueError, match="apply of TFMOT has no counterpart.*places ranges where LiteRT rounds"):
        scheme.get_layout_transformer().apply(None, {})


def test_the_default_config_lists_weights_and_activations():
    layer = layers.Conv2D(4, 3, activation="relu")
    layer.build((None, 8, 8, 3))
    config = qk.default_8bit.Default8BitQuantizeRegistry().get_quantize_config(layer)
    assert type(config) is DefaultQuantizeConfig and type(config.from_config(config.get_config())) is type(config)
    ((weight, quantizer),) = config.get_weights_and_quantizers(layer)
    assert weight is layer.kernel and quantizer.per_axis and quantizer.symmetric
    ((activation, _),) = config.get_activations_and_quantizers(layer)
    assert activation is keras.activations.relu and config.get_output_quantizers(layer) == []
    assert config.set_quantize_weights(layer, []) is None and config.set_quantize_activations(layer, []) is None


@pytest.mark.parametrize(
    ("layer", "count"),
    [(layers.ReLU(), 1), (layers.Activation("relu"), 1), (layers.Add(), 1), (layers.Dropout(0.1), 0),
     (layers.Flatten(), 0), (layers.MaxPooling2D(2), 0)],
    ids=["ReLU", "Activation", "Add", "Dropout", "Flatten", "MaxPooling2D"],
)
def test_an_output_has_a_quantizer_where_litert_rounds_it(layer, count):
    config = N.DefaultNBitQuantizeRegistry(num_bits_activation=6).get_quantize_config(layer)
    assert [quantizer.num_bits for quantizer in config.get_output_quantizers(layer)] == [6] * count


def test_registries_and_transforms_keep_their_arguments():
    registry = N.DefaultNBitQuantizeRegistry(True, 4, 6)
    assert (registry.disable_per_axis, registry.num_bits_weight, registry.num_bits_activation) == (True, 4, 6)
    assert N.DefaultNBitQuantizeLayoutTransform(4, 6).num_bits_activation == 6
