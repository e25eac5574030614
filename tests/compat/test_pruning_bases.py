"""Schedules, policies and layers of the user's own, made for TFMOT, act."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen.compat as tfmot
from tfgreen.transforms.compressed import compressed_layers

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
sparsity = tfmot.sparsity.keras
X = np.random.default_rng(0).normal(size=(32, 10)).astype("float32")


class Steps(sparsity.PruningSchedule):
    """Written as TFMOT's own schedules are, with TensorFlow."""

    def __init__(self, sparsity: float, begin: int) -> None:
        self.sparsity, self.begin = sparsity, begin
        self._validate_step(begin, -1, 1, True)
        self._validate_sparsity(sparsity, "sparsity")

    def __call__(self, step):
        share = self.sparsity * tf.minimum(tf.cast(step - self.begin, tf.float32) / 2.0, 1.0)
        return self._should_prune_in_step(step, self.begin, -1, 1), tf.maximum(share, 0.0)

    def get_config(self):
        return {"sparsity": self.sparsity, "begin": self.begin}


@pytest.mark.parametrize(("arguments", "text"), [((0.5, -1), "begin_step"), ((1.0, 0), r"in range \[0,1\)")])
def test_the_checks_that_schedules_inherit(arguments, text):
    with pytest.raises(ValueError, match=text):
        Steps(*arguments)


@pytest.mark.filterwarnings("ignore:The masks hold a sparsity of")
def test_a_schedule_acts_and_is_saved(tmp_path):
    model = keras.Sequential([keras.Input((10,)), layers.Dense(4)])
    pruned = sparsity.prune_low_magnitude(model, Steps(0.5, begin=1))
    pruned.compile("sgd", "mse")
    found = []
    for _ in range(4):
        pruned.fit(X[:8], X[:8, :4], verbose=0, callbacks=[sparsity.UpdatePruningStep()])
        found.append(pruned.layers[0].chains[0].transforms[0].sparsity)
    assert found == [0.0, 0.25, 0.5, 0.5]
    pruned.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"Steps": Steps})
    assert loaded.layers[0].chains[0].transforms[0].schedule(2) == (True, 0.25)
    assert Steps.from_config(Steps(0.5, 1).get_config()).begin == 1


class WithBias(layers.Dense, sparsity.PrunableLayer):
    def get_prunable_weights(self):
        return [self.kernel, self.bias]


class Nothing(layers.Dense, sparsity.PrunableLayer):
    pass


def test_a_layer_says_which_weights_are_pruned():
    pruned = sparsity.prune_low_magnitude(WithBias(4, bias_initializer="random_normal"))
    model = keras.Sequential([keras.Input((10,)), pruned])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :4], verbose=0, callbacks=[sparsity.UpdatePruningStep()])
    stripped = sparsity.strip_pruning(model).layers[0]
    assert [(keras.ops.convert_to_numpy(w) == 0).mean() for w in stripped.weights] == [0.5, 0.5]
    with pytest.raises(TypeError, match="abstract"):
        Nothing(4)


class OnlyWide(sparsity.PruningPolicy):
    def allow_pruning(self, layer):
        return getattr(layer, "units", 0) > 8

    def ensure_model_supports_pruning(self, model):
        if len(model.layers) > 2:
            raise ValueError("too deep")


def test_a_policy_chooses_layers_and_refuses_models():
    model = keras.Sequential([keras.Input((10,)), layers.Dense(16, name="wide"), layers.Dense(4)])
    pruned = sparsity.prune_low_magnitude(model, pruning_policy=OnlyWide())
    assert [path for path, _ in compressed_layers(pruned)] == ["wide"]
    model.add(layers.Dense(2))
    with pytest.raises(ValueError, match="too deep"):
        sparsity.prune_low_magnitude(model, pruning_policy=OnlyWide())


def start(padding: str = "valid") -> list[keras.Layer]:
    pads = [layers.ZeroPadding2D(1)] if padding == "valid" else []
    return [keras.Input((8, 8, 3)), *pads, layers.Conv2D(4, 3, strides=2, padding=padding)]


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ([*start("same"), layers.Conv2D(4, 1), layers.GlobalAveragePooling2D()], "Could not find `Conv2D 3x3` layer"),
        ([*start(), layers.Conv2D(4, 1), layers.AveragePooling2D(2)], "Could not find a `GlobalAveragePooling2D`"),
        (
            [*start(), layers.Conv2D(4, 1), layers.MaxPooling2D(2), layers.GlobalAveragePooling2D()],
            "Layer MaxPooling2D is not supported for the PruneForLatencyOnXNNPack pruning policy",
        ),
        ([layers.Conv2D(4, 1)], "Unbuilt models are not supported currently"),
    ],
    ids=["start", "end", "middle", "unbuilt"],
)
def test_what_xnnpack_cannot_run_sparse_is_refused_in_the_words_of_tfmot(model, text):
    policy = sparsity.PruneForLatencyOnXNNPack()
    with pytest.raises(ValueError, match=text):
        sparsity.prune_low_magnitude(keras.Sequential(model), pruning_policy=policy)


def test_xnnpack_prunes_the_convolutions_of_1x1():
    model = keras.Sequential([*start(), layers.Conv2D(8, 1, name="pointwise"), layers.GlobalAveragePooling2D()])
    pruned = sparsity.prune_low_magnitude(model, pruning_policy=sparsity.PruneForLatencyOnXNNPack())
    assert [path for path, _ in compressed_layers(pruned)] == ["pointwise"]
    with pytest.raises(ValueError, match="Subclassed models are not supported currently"):
        sparsity.PruneForLatencyOnXNNPack().ensure_model_supports_pruning(keras.Model())


@keras.saving.register_keras_serializable(package="test_compat")
class InTfmotsWay(sparsity.PruningSchedule):
    def __init__(self, share):
        self.share = share

    def __call__(self, step):
        return self._should_prune_in_step(step, 0, -1, 2), self.share

    def get_config(self):
        return {"class_name": type(self).__name__, "config": {"share": self.share}}


def test_a_schedule_whose_config_is_written_as_tfmots_are_is_loaded(tmp_path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    sparsity.prune_low_magnitude(model, InTfmotsWay(0.25)).save(tmp_path / "model.keras")
    with sparsity.prune_scope():
        loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.compile("sgd", "mse")
    loaded.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0, callbacks=[sparsity.UpdatePruningStep()])
    assert (np.asarray(sparsity.strip_pruning(loaded).layers[0].kernel) == 0).sum() == 8
