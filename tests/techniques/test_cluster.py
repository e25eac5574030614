"""cluster on whole models: what is counted in the result, what is left alone and said so, and bad input."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.replicas import on_two_replicas
from tfgreen.model.paths import weights_by_path
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compressed import compressed_layers

HALF = tg.ConstantSparsity(0.5, begin_step=0)


def config(**settings) -> tg.ClusterConfig:
    return tg.ClusterConfig(**{"number_of_clusters": 4, "frequency": 2, **settings})


def fitted(model: keras.Model, name: str, epochs: int = 2, **options) -> keras.Model:
    model.compile(keras.optimizers.Adam(0.01), zoo.loss(name), **options)
    callbacks = [tg.UpdateCompression()]
    model.fit(
        zoo.sample(name), zoo.targets(name), batch_size=2, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks
    )
    return model


def pruned(name: str) -> keras.Model:
    return fitted(tg.prune(zoo.ZOO[name](), tg.PruneConfig(schedule=HALF)), name)


def clustered_weights(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of the stripped model that pass through a codebook in this one."""
    plain, found = weights_by_path(tg.strip(model)), {}
    for path, layer in compressed_layers(model):
        for chain in layer.chains:
            if any(isinstance(transform, Codebook) for transform in chain.transforms):
                names = (f"{path}/{chain.weight}", chain.weight)  # a subclassed model is compressed as a whole
                variable = next(plain[name] for name in names if name in plain)
                found[names[0]] = keras.ops.convert_to_numpy(variable)
    return found


@pytest.mark.parametrize("name", ["sequential", "nested", "multi_io", "subclassed", "attention"])
def test_each_kernel_has_no_more_values_than_clusters_before_and_after_training(name):
    model = tg.cluster(zoo.ZOO[name](), config())
    starts = clustered_weights(model)
    ends = clustered_weights(fitted(model, name))
    assert starts
    for path, start in starts.items():
        assert 2 <= len(np.unique(start)) <= 4 and len(np.unique(ends[path])) <= 4
    assert any(not np.isin(ends[path], start).all() for path, start in starts.items())  # centroids were trained
    for status in tg.summary(model).weights:
        assert status.done or status.reason


@pytest.mark.parametrize("name", zoo.mostly_slow("nested", "multi_io", "residual"))
def test_zeros_of_a_pruned_model_stay_also_after_saving_and_loading(name, tmp_path):
    masked = tg.prune(zoo.ZOO[name](), tg.PruneConfig(schedule=HALF))
    masked.compile("sgd", zoo.loss(name))
    tg.UpdateCompression(masked)  # the masks of step 0
    model = fitted(tg.cluster(masked, config()), name, epochs=1)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for one, other in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for status in tg.summary(loaded).weights:
        if status.done:
            assert status.done == ("Mask", "Codebook")
            assert status.sparsity >= 0.5 - 0.5 / status.size
    for kernel in clustered_weights(loaded).values():
        assert len(np.unique(kernel)) <= 4


def test_the_order_of_the_verbs_does_not_matter():
    model = tg.cluster(zoo.functional(), config(preserve_sparsity=True))
    model = fitted(tg.prune(model, tg.PruneConfig(schedule=HALF)), "functional")
    for status in tg.summary(model).weights:
        assert status.done == ("Mask", "Codebook") and status.sparsity >= 0.5
    for kernel in clustered_weights(model).values():
        assert len(np.unique(kernel)) <= 4


def test_a_codebook_without_zero_cannot_be_pruned_and_says_how():
    model = tg.cluster(zoo.functional(), config())
    with pytest.raises(ValueError, match="layer 'hidden'.*'kernel'.*zeros of a mask.*preserve_sparsity=True"):
        tg.prune(model, tg.PruneConfig(schedule=HALF))
    with pytest.raises(ValueError, match=r"layer 'hidden' \(Dense\), 'kernel'.*zeros of a mask"):
        tg.cluster(pruned("functional"), config(preserve_sparsity=False))


def test_a_sparse_model_that_was_stripped_keeps_its_zeros():
    plain = tg.strip(pruned("functional"))
    zeros = {path: v.numpy() == 0 for path, v in weights_by_path(plain).items() if len(v.shape) == 2}
    model = fitted(tg.cluster(plain, config()), "functional")
    for path, kernel in clustered_weights(model).items():
        assert (kernel[zeros[path]] == 0).all() and zeros[path].mean() == 0.5
    lost = tg.cluster(plain, config(preserve_sparsity=False)).get_layer("hidden").chains[0].transforms[0]
    assert lost.centroids.shape == (4,) and not lost.preserve_sparsity


@pytest.mark.parametrize("name", zoo.one_in(2, ["separable", "batchnorm", "attention", "lstm"]))
def test_per_channel_each_output_channel_has_its_own(name):
    settings = {"per_channel": True, "number_of_clusters": 3, "extra_weights": ("*depthwise*/*kernel",)}
    if name != "separable":
        settings.pop("extra_weights")
    model = fitted(tg.cluster(zoo.ZOO[name](), config(**settings)), name)
    seen = 0
    for path, layer in compressed_layers(model):
        plain = weights_by_path(tg.strip(model))
        for chain in layer.chains:
            kernel = keras.ops.convert_to_numpy(plain[f"{path}/{chain.weight}"])
            axes = [axis % kernel.ndim for axis in chain.transforms[0].channel_axes]
            rows = kernel.transpose([a for a in range(kernel.ndim) if a not in axes] + axes)
            rows = rows.reshape(-1, math.prod(kernel.shape[a] for a in axes))
            assert all(len(np.unique(rows[:, column])) <= 3 for column in range(rows.shape[1]))
            seen += 1
    assert seen
    if name == "separable":
        depthwise = model.get_layer("depthwise_conv2d").chains[0].transforms[0]
        assert depthwise.centroids.shape == (3, 8)


def test_small_weights_are_left_alone_and_few_values_get_few_clusters_and_the_report_says_so(tmp_path):
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="small")(inputs)
    x = layers.Dense(64, name="few")(x)
    x = layers.Dense(64, name="one", kernel_initializer="ones")(x)
    model = keras.Model(inputs, layers.Dense(8, name="large")(x))
    few = model.get_layer("few").kernel
    few.assign(np.random.default_rng(0).choice([0.1, 0.2, -0.3], few.shape))
    clustered = tg.cluster(model, config(number_of_clusters=16))
    clustered.save(tmp_path / "m.keras")
    for result in (clustered, keras.models.load_model(tmp_path / "m.keras")):
        status = {s.layer: s for s in tg.summary(result).weights}
        assert status["small"].done == () and "12 weights, no more than the 16 clusters" in status["small"].reason
        assert status["one"].done == () and "equal" in status["one"].reason
        assert status["few"].done == ("Codebook",) and "3 clusters" in status["few"].reason
        assert status["large"].done == ("Codebook",) and not status["large"].reason
        assert "3 clusters" in str(tg.summary(result))
    np.testing.assert_array_equal(clustered_weights(clustered)["few/kernel"], few)
    assert len(np.unique(clustered_weights(clustered)["large/kernel"])) == 16


def test_a_channel_smaller_than_its_clusters_is_left_alone():
    with pytest.raises(ValueError, match="no weight that can be clustered"):
        tg.cluster(zoo.functional(), config(number_of_clusters=16, per_channel=True))


def test_settings_by_layer_and_weights_that_are_asked_for():
    override = config(number_of_clusters=2, gradient_aggregation="sum")
    model = tg.cluster(
        zoo.separable(), config(layers={"conv2d_t*": override, "dense": None}, extra_weights=("depthwise*/kernel",))
    )
    values = {path: len(np.unique(kernel)) for path, kernel in clustered_weights(model).items()}
    assert values == {
        "separable_conv2d/pointwise_kernel": 4, "depthwise_conv2d/kernel": 4, "conv2d_transpose/kernel": 2,
    }  # fmt: skip
    assert "leave it out" in {s.layer: s.reason for s in tg.summary(model).weights}["dense"]


@pytest.mark.parametrize("method", ["linear", "random", "density_based", "kmeans_plus_plus"])
def test_each_way_to_choose_the_centroids_is_seeded(method):
    model = zoo.sequential()
    first, again = (clustered_weights(tg.cluster(model, config(centroids_init=method, seed=3))) for _ in range(2))
    for path, kernel in first.items():
        np.testing.assert_array_equal(kernel, again[path])
        assert len(np.unique(kernel)) <= 4


def test_batch_normalization_is_folded_first_so_that_the_file_keeps_the_codebook():
    model = zoo.residual()
    norm = model.get_layer("batch_normalization")
    norm.gamma.assign([0.5, 1.0, 2.0, 3.0])
    folded = tg.cluster(model, config(fold_batch_norm=True))
    assert not [layer for layer in folded.layers if "batch" in layer.name]
    for result, most in ((folded, 4), (tg.cluster(model, config()), 16)):
        kernels = [w.values for w in tg.convert(result).weights.values() if w.values.ndim == 4]
        assert max(len(np.unique(kernel)) for kernel in kernels) == most
    with pytest.raises(ValueError, match="layer 'conv2d.*tg.strip"):
        tg.cluster(tg.prune(model, tg.PruneConfig(schedule=HALF)), config(fold_batch_norm=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"jit_compile": True}, {"steps_per_execution": 2}, {"run_eagerly": True}], ids=str
)
def test_ways_to_train(options):
    plain = fitted(tg.cluster(zoo.residual(), config()), "residual")
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    model = fitted(tg.cluster(zoo.residual(), config()), "residual", **options)
    assert len(clustered_weights(model)) == len(clustered_weights(plain)) == 3
    for kernel in clustered_weights(model).values():
        assert np.isfinite(kernel).all() and 2 <= len(np.unique(kernel)) <= 4


@pytest.mark.slow
def test_under_mirrored_strategy_both_replicas_have_the_same_clusters():
    on_two_replicas(
        """
with strategy.scope():
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(10, name="hidden"), keras.layers.Dense(4)])
    clustered = tg.cluster(model, tg.ClusterConfig(number_of_clusters=4, frequency=2))
    clustered.compile(keras.optimizers.Adam(0.01), "mse")
rng = np.random.default_rng(0)
x, y = rng.normal(size=(32, 12)).astype("float32"), rng.normal(size=(32, 4)).astype("float32")
codebook = clustered.get_layer("hidden").chains[0].transforms[0]
before = codebook.assignments.value.values[0].numpy()
clustered.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=[tg.UpdateCompression()])
assert len(codebook.centroids.value.values) == 2
for variable in (codebook.centroids, codebook.assignments, clustered.get_layer("hidden").layer.kernel):
    one, other = (copy.numpy() for copy in variable.value.values)
    np.testing.assert_array_equal(one, other)
assert (codebook.assignments.value.values[0].numpy() != before).any()
assert len(np.unique(tg.strip(clustered).get_layer("hidden").kernel)) == 4
"""
    )


def test_mixed_precision_and_float16():
    inputs = keras.Input((12,))
    x = layers.Dense(16, activation="relu", name="hidden", dtype="mixed_float16")(inputs)
    x = layers.Dense(16, activation="relu", name="half", dtype="float16")(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="out", dtype="float32")(x))
    clustered = tg.cluster(model, config())
    assert clustered.get_layer("hidden").chains[0].transforms[0].centroids.dtype == "float32"
    fitted(clustered, "functional")
    kernels = clustered_weights(clustered)
    assert len(kernels) == 3 and all(len(np.unique(kernel)) <= 4 for kernel in kernels.values())


@pytest.mark.slow
def test_training_resumes_where_it_was_saved(tmp_path):
    def start() -> keras.Model:
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(0)
        return tg.cluster(zoo.residual(), config(frequency=3))

    whole = fitted(start(), "residual", epochs=4)
    half = fitted(start(), "residual", epochs=2)
    half.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    data = zoo.sample("residual"), zoo.targets("residual")
    loaded.fit(*data, batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[tg.UpdateCompression()])
    for one, other in zip(whole.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_centroids_and_stored_weights_are_trained_and_the_latter_change_their_centroids():
    model = tg.cluster(zoo.functional(), config(frequency=1))
    codebook = model.get_layer("hidden").chains[0].transforms[0]
    kernel, before = model.get_layer("hidden").layer.kernel, codebook.assignments.numpy().copy()
    stored = kernel.numpy().copy()
    fitted(model, "functional", epochs=20)
    assert (kernel.numpy() != stored).all() and (codebook.assignments.numpy() != before).any()
    trained = [variable.path for variable in tg.strip(model).trainable_variables]
    assert sum(name.endswith("kernel") for name in trained) == 2 and not any("centroids" in name for name in trained)


def test_a_frozen_layer_is_clustered_and_stays_frozen():
    model = zoo.functional()
    model.get_layer("hidden").trainable = False
    clustered = tg.cluster(model, config())
    assert not clustered.get_layer("hidden").trainable_variables
    before = clustered_weights(clustered)["hidden/kernel"]
    np.testing.assert_array_equal(clustered_weights(fitted(clustered, "functional"))["hidden/kernel"], before)
    assert not tg.strip(clustered).get_layer("hidden").trainable_variables


def test_settings_round_trip_as_plain_values():
    settings = config(layers={"head": None, "conv*": config(per_channel=True)}, extra_weights=["*/bias"], seed=2)
    assert tg.ClusterConfig.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"number_of_clusters": 4.0}, "number_of_clusters.*an integer.*received 4.0"),
        ({"number_of_clusters": 1}, "number_of_clusters.*>= 2.*received 1"),
        ({"number_of_clusters": 2, "preserve_sparsity": True}, "number_of_clusters.*>= 3.*one of them is 0"),
        ({"number_of_clusters": 70_000}, "number_of_clusters.*<= 65536, received 70000"),
        ({"centroids_init": "kmeans"}, "centroids_init.*'kmeans_plus_plus'.*received 'kmeans'"),
        ({"gradient_aggregation": "mean"}, "gradient_aggregation.*'average'"),
        ({"frequency": 0}, "frequency.*>= 1"),
        ({"seed": -1}, "seed.*>= 0"),
        ({"layers": {"a": config(layers={"b": None})}}, r"layers\['a'\].*no layers of its own"),
    ],
)
def test_settings_that_cannot_be_met_say_what_to_change(settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"number_of_clusters": True}, "number_of_clusters.*an integer"),
        ({"per_channel": 1}, "per_channel.*True or False"),
        ({"preserve_sparsity": "yes"}, "preserve_sparsity.*True or False"),
        ({"layers": {"a": 16}}, r"layers\['a'\].*tg.ClusterConfig or None"),
        ({"extra_weights": "*/bias"}, "extra_weights.*patterns"),
    ],
)
def test_a_type_that_is_wrong_is_named(settings, message):
    with pytest.raises(TypeError, match=message):
        config(**settings)


@pytest.mark.parametrize("bad", [{}, 16])
def test_the_config_must_be_a_cluster_config(bad):
    with pytest.raises(TypeError, match="tg.ClusterConfig"):
        tg.cluster(zoo.functional(), bad)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layers": {"conf*": None}}, r"layers.*matches one of hidden, .*received 'conf\*'"),
        ({"extra_weights": ("*/gamma",)}, r"extra_weights.*hidden/kernel.*received '\*/gamma'"),
        ({"number_of_clusters": 1000}, "'functional_net' has no weight that can be clustered.*1000"),
    ],
)
def test_settings_that_do_not_fit_the_model_name_what_does_not(settings, message):
    with pytest.raises(ValueError, match=message):
        tg.cluster(zoo.functional(), config(**settings))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(bad):
    with pytest.raises(ValueError, match=r"layer 'hidden' \(Dense\), 'kernel'.*2 NaN or infinite"):
        tg.cluster(zoo.spoiled(bad), config())


def test_two_clusters_cannot_hold_a_sparse_weight():
    with pytest.raises(ValueError, match=r"layer 'hidden' \(Dense\), 'kernel'.*at least 3 clusters.*zeros"):
        tg.cluster(tg.strip(pruned("functional")), config(number_of_clusters=2))


def test_a_model_that_is_clustered_already_or_has_nothing_to_cluster():
    with pytest.raises(ValueError, match=r"layer 'hidden' \(Dense\) is clustered already.*tg.strip"):
        tg.cluster(tg.cluster(zoo.functional(), config()), config())
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.BatchNormalization()(inputs), name="only_norm")
    with pytest.raises(ValueError, match="'only_norm' has no weight that can be clustered"):
        tg.cluster(model, config())


def test_training_that_diverges_is_named():
    model = tg.cluster(zoo.functional(), config(frequency=1))
    model.compile(keras.optimizers.SGD(1e30), zoo.loss("functional"))
    with pytest.raises(ValueError, match=r"layer '\w+' \(Dense\), 'kernel'.*lower the learning rate"):
        model.fit(
            zoo.sample("functional"), zoo.targets("functional"), epochs=5, verbose=0, callbacks=[tg.UpdateCompression()]
        )


def test_clusters_of_what_is_rounded_by_channel_are_said_to_become_more_values():
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(32, name="wide"), keras.layers.Dense(32)])
    x = np.random.default_rng(0).normal(size=(64, 10)).astype("float32")
    with pytest.warns(UserWarning, match=r"\['wide', 'dense.*'\] are quantized with a scale for each.*cluster the"):
        late = tg.cluster(tg.quantize(model, calibration_data=x), number_of_clusters=8)
    first = tg.quantize(tg.cluster(model, number_of_clusters=8), calibration_data=x)
    values = [len(np.unique(tg.strip(one).get_layer("wide").kernel)) for one in (late, first)]
    assert values[0] > 8 >= values[1]
