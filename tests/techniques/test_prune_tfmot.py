"""A whole training beside TFMOT's: the same weights, data, optimizer and schedule give the same masks at every batch.

The two count differently. TFMOT computes a mask at the start of batch t, which is its step t, counted from 1: from
weights that t - 1 batches have trained. tfgreen computes it at the end of batch t - 1, which is its step t - 1. So the
same weights meet the same sparsity when TFMOT's ``begin_step`` and ``end_step`` are one larger.

They also differ in what a pruned weight is at an update: zero in tfgreen; in TFMOT, one step of the optimizer away from
zero, which may bring it back. The first test trains gently enough that none comes back. The second trains so hard that
many do, and hands TFMOT's weights to tfgreen before each update.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.training.schedules import _tfmot_schedules
from tfgreen.transforms.compressed import compressed_layers

BATCH, BATCHES = 8, 14

# name -> schedule of either side, given its classes and by how much it counts further. The frequency divides the span:
# where it does not, tfgreen's polynomial has one more update, at end_step.
SCHEDULES = {
    "polynomial": lambda api, shift: api.PolynomialDecay(0.2, 0.85, 2 + shift, 11 + shift, frequency=3),
    "constant": lambda api, shift: api.ConstantSparsity(0.6, 1 + shift, 9 + shift, frequency=2),
}


def dense(api: Any) -> Any:
    layers = api.layers
    return api.Sequential([api.Input((20,)), layers.Dense(16, activation="relu", name="a"), layers.Dense(5, name="b")])


def conv(api: Any) -> Any:
    layers = api.layers
    return api.Sequential(
        [
            api.Input((9, 9, 3)),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="a"),
            layers.Conv2D(6, 3, activation="relu", name="b"),
            layers.Flatten(),
            layers.Dense(5, name="c"),
        ]
    )


def data(model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return (
        rng.normal(size=(BATCH * BATCHES, *model.input_shape[1:])).astype("float32"),
        rng.normal(size=(BATCH * BATCHES, 5)).astype("float32"),
    )


def twins(network: Any, schedule: Any) -> tuple[keras.Model, Any, Any]:
    """The same network pruned by tfgreen and by TFMOT, and TFMOT's callback."""
    _tfmot_schedules()  # the one door to TFMOT, which keeps tf.keras what it is
    import tf_keras
    from tensorflow_model_optimization.python.core.sparsity.keras import prune, pruning_callbacks, pruning_schedule

    model, twin = network(keras), network(tf_keras)
    twin.set_weights(model.get_weights())
    ours = tg.prune(model, tg.PruneConfig(schedule=schedule(tg, 0)))
    theirs = prune.prune_low_magnitude(twin, schedule(pruning_schedule, 1))
    return ours, theirs, pruning_callbacks.UpdatePruningStep()


def our_masks(model: keras.Model) -> list[np.ndarray]:
    return [layer.chains[0].transforms[0].mask.numpy() for _, layer in compressed_layers(model)]


def pruned_by_tfmot(model: Any) -> list[Any]:
    return [layer for layer in model.layers if getattr(layer, "pruning_vars", None)]


def their_masks(model: Any) -> list[np.ndarray]:
    return [layer.pruning_vars[0][1].numpy() != 0 for layer in pruned_by_tfmot(model)]


def stored(layer: Any) -> np.ndarray:
    return np.array(layer.layer.kernel.numpy())  # both wrappers call the layer inside `layer`


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("network", [dense, conv])
def test_fit_gives_the_masks_and_weights_of_tfmots_fit(network, schedule):
    ours, theirs, update = twins(network, schedule)
    import tf_keras

    x, y = data(ours)
    masks: tuple[list, list] = ([], [])  # in force during each batch
    ours.compile(keras.optimizers.SGD(0.05), "mse")
    theirs.compile(tf_keras.optimizers.SGD(0.05), "mse")
    note = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda _, logs: masks[0].append(our_masks(ours)))
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    ours.fit(x, y, callbacks=[tg.UpdateCompression(), note], **options)
    note = tf_keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: masks[1].append(their_masks(theirs)))
    theirs.fit(x, y, callbacks=[update, note], **options)

    assert len(masks[0]) == len(masks[1]) == BATCHES
    for batch, (one, other) in enumerate(zip(*masks)):
        for ours_now, theirs_now in zip(one, other, strict=True):
            np.testing.assert_array_equal(ours_now, theirs_now, err_msg=f"during batch {batch}")
    changes = [any((a != b).any() for a, b in zip(*pair)) for pair in zip(masks[0], masks[0][1:])]
    assert not masks[0][-1][0].all() and masks[0][0][0].all() and sum(changes) >= 1
    for (_, one), other in zip(compressed_layers(ours), pruned_by_tfmot(theirs), strict=True):
        np.testing.assert_allclose(stored(one), stored(other), atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("network", [dense, conv])
def test_updates_from_the_same_weights_give_the_same_masks_while_pruned_weights_come_back(network, schedule):
    ours, theirs, update = twins(network, schedule)
    import tf_keras

    x, y = data(ours)
    theirs.compile(tf_keras.optimizers.SGD(1.0), "mse")
    update.set_model(theirs)
    update.on_train_begin()
    driver = tg.UpdateCompression(ours)
    regrown = 0
    for batch in range(BATCHES):
        for (_, one), other in zip(compressed_layers(ours), pruned_by_tfmot(theirs), strict=True):
            one.layer.kernel.assign(stored(other))
        before = our_masks(ours)
        if batch:
            driver.step()
        theirs.train_on_batch(x[batch * BATCH :][:BATCH], y[batch * BATCH :][:BATCH])
        for old, one, other in zip(before, our_masks(ours), their_masks(theirs), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"during batch {batch}")
            regrown += int((one & ~old).sum())
    assert regrown
