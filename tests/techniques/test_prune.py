from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo

HALF = tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_compressible_weight_reaches_the_sparsity_and_the_rest_is_listed_with_a_reason(name):
    model = tg.prune(zoo.ZOO[name](), tg.PruneConfig(schedule=tg.ConstantSparsity(0.75, begin_step=0)))
    model.compile("adam", zoo.loss(name))
    model.fit(zoo.sample(name), zoo.targets(name), verbose=0, callbacks=[tg.UpdateCompression()])
    statuses = tg.summary(model).weights
    assert any(status.done for status in statuses)
    for status in statuses:
        if status.done:
            assert abs(status.sparsity - 0.75) <= 0.5 / status.size + 1e-9
        else:
            assert status.reason
    # the plain model counts the same
    for before, after in zip(statuses, tg.summary(tg.strip(model)).weights, strict=True):
        assert after.done == () and after.nonzeros == before.nonzeros


def test_a_depthwise_or_normalized_layer_is_kept_and_named():
    reasons = {status.layer: status.reason for status in tg.summary(tg.prune(zoo.separable(), HALF)).weights}
    assert "depthwise" in reasons["depthwise_conv2d"]
    assert "normalizes" in reasons["batch_normalization"]


@pytest.mark.parametrize("config", [0.5, tg.ConstantSparsity(0.5, 0)])
def test_the_config_must_be_a_prune_config(config):
    with pytest.raises(TypeError, match="tg.PruneConfig"):
        tg.prune(zoo.functional(), config)


def test_by_default_half_of_each_kernel_is_pruned_from_the_first_step_on():
    pruned = tg.prune(zoo.functional())
    tg.UpdateCompression(pruned)
    assert {status.sparsity for status in tg.summary(pruned).weights if status.done} == {0.5}


def test_the_schedule_must_be_a_schedule():
    with pytest.raises(TypeError, match="schedule.*PolynomialDecay.*received float"):
        tg.PruneConfig(schedule=0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_cannot_be_ranked_are_named(bad):
    with pytest.raises(ValueError, match=r"layer 'hidden' \(Dense\).*'kernel'.*2 NaN or infinite"):
        tg.prune(zoo.spoiled(bad), HALF)


def test_a_model_with_nothing_to_prune_says_so():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.BatchNormalization()(inputs), name="only_norm")
    with pytest.raises(ValueError, match="'only_norm' has no weight that can be pruned.*tg.summary"):
        tg.prune(model, HALF)


def test_a_frozen_layer_is_pruned_and_stays_frozen():
    model = zoo.functional()
    model.get_layer("hidden").trainable = False
    pruned = tg.prune(model, HALF)
    assert not pruned.get_layer("hidden").trainable_variables
    pruned.compile("sgd", zoo.loss("functional"))
    kernel = model.get_layer("hidden").kernel.numpy()
    pruned.fit(zoo.sample("functional"), zoo.targets("functional"), verbose=0, callbacks=[tg.UpdateCompression()])
    after = pruned.get_layer("hidden").layer.kernel.numpy()
    assert (after == 0).mean() == 0.5
    np.testing.assert_array_equal(after[after != 0], kernel[after != 0])


def test_the_demo_of_the_design_document_runs_as_written():
    model, x, y = zoo.functional(), zoo.sample("functional", 64), zoo.targets("functional", 64)
    schedule = tg.PolynomialDecay(initial_sparsity=0.0, final_sparsity=0.8, begin_step=0, end_step=10, frequency=2)
    pruned = tg.prune(model, tg.PruneConfig(schedule=schedule))
    pruned.compile("adam", "sparse_categorical_crossentropy")
    pruned.fit(x, y, batch_size=4, verbose=0, callbacks=[tg.UpdateCompression()])
    plain = tg.strip(pruned)
    assert (plain.get_layer("hidden").kernel.numpy() == 0).mean() == pytest.approx(0.8, abs=0.01)
    assert "Mask" in str(tg.summary(pruned))
