from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg


def test_sparsity_and_threshold_of_every_weight_are_written_per_epoch(tmp_path):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(8, name="out")])
    pruned = tg.prune(model, tg.PruneConfig(schedule=tg.PolynomialDecay(0.0, 0.5, 0, 4, frequency=1)))
    pruned.compile("sgd", "mse")
    callbacks = [tg.UpdateCompression(), tg.CompressionSummaries(tmp_path)]
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 10)), rng.normal(size=(8, 8))
    pruned.fit(*data, batch_size=4, epochs=3, verbose=0, callbacks=callbacks)
    found: dict[str, dict[int, float]] = {}
    for file in tmp_path.iterdir():
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    assert found["out/kernel/sparsity"][6] == 0.5
    assert list(found["out/kernel/sparsity"]) == [2, 4, 6]
    kernel = np.abs(pruned.get_layer("out").layer.kernel.numpy())
    assert found["out/kernel/threshold"][6] == pytest.approx(kernel[kernel > 0].min())


@pytest.mark.parametrize("bad, error", [(None, TypeError), ("", ValueError)])
def test_a_folder_is_needed(bad, error):
    with pytest.raises(error, match="log_dir"):
        tg.CompressionSummaries(bad)


def test_a_model_with_nothing_to_show_is_an_error(tmp_path):
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(8)], name="plain")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="'plain' has no compressed layer.*tg.prune"):
        model.fit(np.ones((4, 10)), np.ones((4, 8)), verbose=0, callbacks=[tg.CompressionSummaries(tmp_path)])


def test_centroids_and_counts_of_every_clustered_weight_are_written(tmp_path):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(8, name="out")])
    clustered = tg.cluster(model, tg.ClusterConfig(number_of_clusters=4))
    clustered.compile("sgd", "mse")
    callbacks = [tg.UpdateCompression(), tg.CompressionSummaries(tmp_path)]
    data = np.random.default_rng(0).normal(size=(8, 10)), np.random.default_rng(1).normal(size=(8, 8))
    clustered.fit(*data, batch_size=4, verbose=0, callbacks=callbacks)
    found = {}
    for file in tmp_path.iterdir():
        for record in tf.data.TFRecordDataset(str(file)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                found[value.tag] = float(tf.make_ndarray(value.tensor))
    kernel = tg.strip(clustered).get_layer("out").kernel.numpy()
    values, counts = np.unique(kernel, return_counts=True)
    assert sorted(found[f"out/kernel/centroid_{i}"] for i in range(4)) == pytest.approx(values.tolist())
    assert sorted(found[f"out/kernel/count_{i}"] for i in range(4)) == sorted(counts.tolist())
