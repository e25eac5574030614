"""A pruned layer has what code reads off TFMOT's wrapper."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen import compat as tfmot
from tfgreen.compat.wrappers.pruned import PruneLowMagnitude

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
sparsity = tfmot.sparsity.keras
X = np.random.default_rng(0).normal(size=(32, 10)).astype("float32")


def net() -> keras.Model:
    return keras.Sequential([keras.Input((10,)), layers.Dense(10, use_bias=False, name="out")])


def test_masks_thresholds_and_steps_are_those_of_the_training():
    model = net()
    model.layers[0].set_weights([np.arange(1.0, 101.0).reshape(10, 10)])
    pruned = sparsity.prune_low_magnitude(model, sparsity.ConstantSparsity(0.2, 0, frequency=1))
    layer = pruned.layers[0]
    assert isinstance(layer, PruneLowMagnitude) and layer.name == "out"
    assert layer.pruning_vars[0][2] == 0 and int(layer.pruning_step) == 0
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    pruned.fit(X, X, batch_size=8, verbose=0, callbacks=[sparsity.UpdatePruningStep()])
    ((weight, mask, threshold),) = layer.pruning_vars
    assert weight is layer.layer.kernel and layer.prunable_weights == [weight]
    assert threshold == 21 and np.count_nonzero(keras.ops.convert_to_numpy(mask)) == 80
    assert int(layer.pruning_step) == 4


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_settings_are_those_given_after_loading_too(tmp_path, ending):
    schedule = sparsity.PolynomialDecay(0.1, 0.5, 0, 10)
    models = [
        sparsity.prune_low_magnitude(net(), schedule, (2, 2), "MAX"),
        keras.Sequential([
            keras.Input((10,)), sparsity.prune_low_magnitude(layers.Dropout(0.1), schedule, (2, 2), "MAX"),
            sparsity.prune_low_magnitude(layers.Dense(2, name="last"), schedule, (2, 2), "MAX"),
        ]),
    ]
    for model in models:
        model.save(tmp_path / f"model{ending}")
        for layer in keras.saving.load_model(tmp_path / f"model{ending}").layers[-1:]:
            assert (layer.pruning_schedule, layer.block_size, layer.block_pooling_type) == (schedule, (2, 2), "MAX")
            assert layer.sparsity_m_by_n is None
    assert models[1].layers[0].pruning_vars == [] and models[1].layers[0].pruning_step is None


def test_m_by_n_and_a_schedule_of_ones_own():
    def schedule(step: int) -> tuple[bool, float]:
        return True, 0.5

    layer = sparsity.prune_low_magnitude(layers.Dense(4), schedule, sparsity_m_by_n=(2, 4))
    assert layer.pruning_schedule is schedule and layer.sparsity_m_by_n == (2, 4) and layer.prunable_weights == []


@pytest.mark.parametrize("m_by_n", [(2, 4, 5), (2.0, 4), "24"])
def test_m_by_n_of_other_than_two_integers(m_by_n):
    with pytest.raises(ValueError, match="must be a tuple or list of 2 integers"):
        sparsity.prune_low_magnitude(layers.Dense(4), sparsity_m_by_n=m_by_n)
