"""A name that is not there: what there is instead."""

from __future__ import annotations

import pytest

from tfgreen import compat as tfmot
from tfgreen.compat.unknown import unknown_name


@pytest.mark.parametrize(
    "module, name, words",
    [
        (tfmot, "python", "modules below 'python' are private"),
        (tfmot, "contrib", "was of TensorFlow 1"),
        (tfmot, "sparcity", "Did you mean 'sparsity'"),
        (tfmot.sparsity, "tf1", "It has keras."),
        (tfmot.sparsity.keras, "prune_low_magnitud", "Did you mean 'prune_low_magnitude'"),
        (tfmot.sparsity.keras, "apply_mask", r"call tfmot.sparsity.keras.prune_low_magnitude\(model\)"),
        (tfmot.clustering.keras, "cluster_weight", "Did you mean 'cluster_weights'"),
        (tfmot.quantization.keras, "create_training_graph", r"call tfmot.quantization.keras.quantize_model\(model\)"),
    ],
)
def test_a_name_that_is_not_there_is_answered(module, name, words):
    with pytest.raises(AttributeError, match=f"'{module.__name__}' has no attribute '{name}'.*{words}"):
        getattr(module, name)
    assert not hasattr(module, "__wrapped__")  # which tools ask for


def test_private_names_are_not_offered():
    assert "_hidden" not in str(unknown_name("m", "hiden", ["_hidden", "shown"]))
