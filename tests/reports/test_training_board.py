from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg


def read(folder) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for file in folder.glob("events*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def compressed() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(32, 10)).astype("float32")
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(2)])
    pruned = tg.prune(model, schedule=tg.PolynomialDecay(0.0, 0.5, 0, 4, frequency=1))
    clustered = tg.cluster(pruned, number_of_clusters=4)
    quantized = tg.quantize(clustered, calibration_data=x)
    quantized.compile(keras.optimizers.SGD(0.01), "mse")
    return quantized, x


def test_everything_that_changes_is_read_back(tmp_path):
    model, x = compressed()
    callbacks = [tg.UpdateCompression(), tg.TrainingBoard(tmp_path, region="DEU")]
    history = model.fit(
        x, x[:, :2], validation_split=0.5, batch_size=4, epochs=3, verbose=0, callbacks=callbacks
    ).history
    found = read(tmp_path)
    for name in ("loss", "val_loss", "sparsity"):
        assert list(found[f"epoch/{name}"].values()) == pytest.approx(history[name])
    assert found["epoch/learning_rate"][2] == pytest.approx(0.01)
    assert list(found["epoch/energy_joules"]) == [0, 1, 2] and min(found["epoch/energy_joules"].values()) > 0
    assert min(found["epoch/co2e_kg"].values()) > 0
    assert found["hidden/kernel/sparsity"][2] == pytest.approx(0.5, abs=0.1)
    kernel = tg.strip(model).get_layer("hidden").kernel.numpy()
    centroids = [value[2] for tag, value in found.items() if tag.startswith("hidden/kernel/centroid_")]
    assert np.abs(kernel.reshape(-1, 1) - np.array(centroids)).min(1).max() < 0.01  # the codebook, rounded to int8
    ranges = {tag for tag in found if tag.endswith(("/lower", "/upper"))}
    assert len(ranges) >= 4 and any(found[tag][2] > 0 for tag in ranges if tag.endswith("upper"))


@pytest.mark.slow
def test_chosen_steps_are_profiled(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    board = tg.TrainingBoard(tmp_path, profile_steps=(2, 3))
    model.fit(np.ones((64, 4)), np.ones((64, 1)), batch_size=8, epochs=2, verbose=0, callbacks=[board])
    (trace,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 1000


class Failing(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise RuntimeError("it failed")


@pytest.mark.slow
@pytest.mark.parametrize("holds", [True, False])
def test_a_training_that_raises_leaves_no_profiler_running(holds, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    def train(board, *others):
        return model.fit(np.ones((64, 4)), np.ones((64, 1)), batch_size=8, verbose=0, callbacks=[board, *others])

    board = tg.TrainingBoard(tmp_path / "first", profile_steps=(2, 6))
    with pytest.raises(RuntimeError, match="it failed"):
        train(board, Failing())
    if not holds:
        board = None
        gc.collect()
        board = tg.TrainingBoard(tmp_path / "second", profile_steps=(2, 6))
    train(board)
    assert len({trace.parts[-5] for trace in tmp_path.glob("*/plugins/profile/*/*.xplane.pb")}) == 2 - holds


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((None,), TypeError, "folder"),
        (("",), ValueError, "folder"),
        (("x", (3, 2)), ValueError, "first <= last"),
        (("x", (0, 2)), ValueError, ">= 1"),
        (("x", None, "Atlantis"), ValueError, "Atlantis"),
    ],
    ids=range(5),
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        tg.TrainingBoard(*arguments)


@pytest.mark.parametrize("callback", [tg.TrainingBoard, tg.CompressionSummaries])
def test_a_folder_that_cannot_be_written_is_named_at_once(callback, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "in", "/proc/none"):
        with pytest.raises(tg.FileError, match="expected a folder|cannot be written"):
            callback(place)
    callback(tmp_path / "not" / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_steps_to_profile_that_never_come_are_named(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    board = tg.TrainingBoard(tmp_path, profile_steps=(500, 600))
    with pytest.warns(UserWarning, match=r"profile_steps \(500, 600\).*after 2 steps, so no trace"):
        model.fit(np.ones((4, 4)), np.ones((4, 1)), batch_size=2, verbose=0, callbacks=[board])
