"""What the benchmarks share: TFMOT, the network, the data, and how two kinds of training are timed side by side."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfgreen.recipes.classification import class_data
from tfgreen.recipes.data.data import Data
from tfgreen.training.schedules import _tfmot_schedules

Split = tuple[np.ndarray, np.ndarray]


def tfmot() -> Any:
    """TFMOT, imported after tfgreen's door has kept tf.keras what it is."""
    _tfmot_schedules()
    import tensorflow_model_optimization

    return tensorflow_model_optimization


def resnet8(api: Any) -> Any:
    """MLPerf Tiny's image classification network, in Keras 3 or tf_keras."""
    layers = api.layers

    def block(x: Any, filters: int, stride: int) -> Any:
        y = layers.Conv2D(filters, 3, strides=stride, padding="same")(x)
        y = layers.Activation("relu")(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        if stride > 1:
            x = layers.Conv2D(filters, 1, strides=stride, padding="same")(x)
        return layers.Activation("relu")(layers.Add()([x, y]))

    inputs = api.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = block(block(block(x, 16, 1), 32, 2), 64, 2)
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return api.Model(inputs, layers.Dense(10, activation="softmax")(x))


def dense(api: Any) -> Any:
    """2048-4096-4096-1000: 29 million weights."""
    layers = api.layers
    hidden = [layers.Dense(4096, activation="relu") for _ in range(2)]
    return api.Sequential([api.Input((2048,)), *hidden, layers.Dense(1000, activation="softmax")])


@dataclasses.dataclass
class SpeedCase:
    """A network in one framework, with a batch of random data."""

    title: str
    api: Any
    network: Callable[[Any], Any]
    steps: int  # per round
    x: np.ndarray
    y: np.ndarray

    def fit(self, model: Any, callbacks: list[Any]) -> Callable[[], Any]:
        return fit(model, self.x, self.y, self.steps, callbacks)

    def plain(self) -> dict[str, Callable[[], Any]]:
        return {run: self.fit(self.network(self.api), []) for run in ("plain", "plain again")}


def speed_cases() -> Iterator[SpeedCase]:
    """ResNet-8 with a batch of 128 and a dense network with one of 32, each in Keras 3 and tf_keras."""
    import tf_keras  # slow to import

    networks = (("resnet8", resnet8, (128, 32, 32, 3), 10, 9), ("dense", dense, (32, 2048), 1000, 6))
    for name, network, shape, classes, steps in networks:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=shape).astype("float32"), rng.integers(0, classes, shape[0])
        for api, side in ((keras, "tfgreen"), (tf_keras, "tfmot")):
            yield SpeedCase(f"{name} {side}", api, network, steps, x, y)


def load_data(path: str) -> tuple[Split, Split]:
    """Training and test images, as float32 of 0 to 255, with integer labels."""
    data = class_data(Data.from_npz(path, validation_share=0))
    return (data.train.x.astype("float32"), data.train.y), (data.test.x.astype("float32"), data.test.y)


def augmented(x: np.ndarray, y: np.ndarray, seed: int, batch: int = 128) -> tf.data.Dataset:
    """Shuffled batches, mirrored at random and shifted by up to 4 pixels; equal seeds give equal batches."""

    def augment(image: Any, label: Any, number: Any) -> Any:
        pair = tf.stack([tf.cast(seed, tf.int64), number])
        image = tf.image.stateless_random_flip_left_right(tf.pad(image, [[4, 4], [4, 4], [0, 0]], "REFLECT"), pair)
        return tf.image.stateless_random_crop(image, (32, 32, 3), pair), label

    images = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=seed)
    numbers = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
    dataset = tf.data.Dataset.zip(images, numbers).map(lambda pair, number: augment(*pair, number), tf.data.AUTOTUNE)
    return dataset.batch(batch).prefetch(2)


def compare(title: str, runs: dict[str, Callable[[], Any]], rounds: int, steps: int) -> None:
    """Time the runs in turns, and print the median ratio of each to the first within one round."""
    wall: dict[str, list[float]] = {run: [] for run in runs}
    cpu: dict[str, list[float]] = {run: [] for run in runs}
    for turn in range(rounds):
        for run in list(runs)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter(), time.process_time()
            runs[run]()
            wall[run].append((time.perf_counter() - start[0]) / steps)
            cpu[run].append((time.process_time() - start[1]) / steps)
    first = next(iter(runs))
    for run in runs:
        cells = []
        for kind, times in (("wall", wall), ("CPU", cpu)):
            ratio = statistics.median(a / b for a, b in zip(times[run], times[first]))
            cells.append(f"{statistics.median(times[run]) * 1e3:8.1f} ms {kind} x {ratio:.3f}")
        print(f"{title:16} {run:12} {'   '.join(cells)}", flush=True)


def fit(model: Any, x: np.ndarray, y: np.ndarray, steps: int, callbacks: list[Any]) -> Callable[[], Any]:
    """A call that trains for ``steps`` steps, warmed up."""
    batches = tf.data.Dataset.from_tensors((x, y)).cache().repeat()
    model.compile("adam", "sparse_categorical_crossentropy")

    def call() -> Any:
        return model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0, callbacks=callbacks)

    call()
    return call


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def top1(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    scores = np.asarray(model.predict(x, batch_size=500, verbose=0)).reshape(len(x), -1)
    return float((scores.argmax(-1) == y).mean())
