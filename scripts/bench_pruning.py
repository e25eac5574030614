"""tfgreen's pruning beside TFMOT's, in one run: step time, selection time, and accuracy after the same budget.

    python scripts/bench_pruning.py speed
    python scripts/bench_pruning.py select
    python scripts/bench_pruning.py accuracy --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz

TFMOT prunes a tf_keras model, tfgreen a Keras 3 model of the same layers, weights, data, optimizer and schedule. Plain
and pruned training take turns; the median over the rounds of their ratio *in the same framework* is reported, for wall
clock and for CPU time of this process. Plain training runs twice, so its ratio to itself shows the noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

import tfgreen as tg
from tfgreen.training.schedules import _tfmot_schedules
from tfgreen.transforms.selection import keep_largest


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
    import tf_keras

    networks = (("resnet8", resnet8, (128, 32, 32, 3), 10, 8), ("dense", dense, (32, 2048), 1000, 4))
    for name, network, shape, classes, steps in networks:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=shape).astype("float32"), rng.integers(0, classes, shape[0])
        for api, side in ((keras, "tfgreen"), (tf_keras, "tfmot")):
            yield SpeedCase(f"{name} {side}", api, network, steps, x, y)


def speed(rounds: int) -> None:
    """Step time of pruned over plain training, for both sides; plain training twice, which shows the noise."""
    sparsity = tfmot().sparsity.keras
    for case in speed_cases():
        runs = case.plain()
        for every in (100, 1):
            if case.api is keras:
                schedule: Any = tg.ConstantSparsity(0.8, begin_step=0, frequency=every)
                pruned = tg.prune(case.network(keras), tg.PruneConfig(schedule=schedule))
                callbacks: list[Any] = [tg.UpdateCompression()]
            else:
                schedule = sparsity.ConstantSparsity(0.8, begin_step=0, frequency=every)
                pruned = sparsity.prune_low_magnitude(case.network(case.api), schedule)
                callbacks = [sparsity.UpdatePruningStep()]
            runs[f"every {every}"] = case.fit(pruned, callbacks)
        compare(case.title, runs, rounds, case.steps)


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
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensors((x, y)).cache().repeat()
    model.compile("adam", "sparse_categorical_crossentropy")

    def call() -> Any:
        return model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0, callbacks=callbacks)

    call()
    return call


def select() -> None:
    """Seconds to mask 16.7 million weights: tfgreen, TFMOT's top_k, and how tfgreen's time grows."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for size in (1_048_576, 4_194_304, 16_777_216):
        weight = rng.standard_normal(size, dtype=np.float32)
        pruned = np.where(rng.random(size) < 0.8, 0, weight).astype(np.float32)
        for kind, values in (("dense", weight), ("80 % zeros", pruned)):
            seconds = [timed(lambda: keep_largest(np.abs(values), 0.9)) for _ in range(5)]
            print(f"{size:11,} {kind:10} tfgreen {statistics.median(seconds):.3f} s wall", flush=True)
    magnitudes = tf.abs(tf.constant(weight))
    print(f"{size:11,} {'dense':10} top_k   {timed(lambda: tf.math.top_k(magnitudes, size // 10)):.3f} s wall")


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def accuracy(model_path: str, data_path: str, seeds: int, epochs: int, sparsities: list[float]) -> None:
    """Test accuracy at each sparsity, mean and spread over seeds, TFMOT beside tfgreen's scopes."""
    import tf_keras

    from tfgreen.recipes.data import load_npz

    data = load_npz(data_path)
    x, y = np.asarray(data.x_train, "float32"), np.asarray(data.y_train).ravel()
    x_test, y_test = np.asarray(data.x_test, "float32"), np.asarray(data.y_test).ravel()
    dense_model = tg.load_model(model_path)
    twin = resnet8(tf_keras)
    twin.set_weights(dense_model.get_weights())
    print(f"dense: {top1(dense_model, x_test, y_test):.2%} (Keras 3), {top1(twin, x_test, y_test):.2%} (tf_keras)")
    batch = 128
    steps = epochs * -(-len(x) // batch)
    sides = ["tfmot", "layer", "global", "erk"]
    for target in sparsities:
        found: dict[str, list[float]] = {side: [] for side in sides}
        zeros: dict[str, float] = {}
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(x))
            for side in sides:
                settings = {"initial_sparsity": 0.3 * target, "final_sparsity": target, "begin_step": 0}
                settings |= {"end_step": int(0.7 * steps), "frequency": 10}
                if side == "tfmot":
                    sparsity = tfmot().sparsity.keras
                    tf_keras.utils.set_random_seed(seed)
                    network = tf_keras.models.clone_model(twin)
                    network.set_weights(twin.get_weights())
                    pruned = sparsity.prune_low_magnitude(network, sparsity.PolynomialDecay(**settings))
                    callbacks, api = [sparsity.UpdatePruningStep()], tf_keras
                else:
                    keras.utils.set_random_seed(seed)
                    config = tg.PruneConfig(schedule=tg.PolynomialDecay(**settings), scope=side)
                    pruned, callbacks, api = tg.prune(dense_model, config), [tg.UpdateCompression()], keras
                rate = api.optimizers.schedules.CosineDecay(1e-3, steps)
                pruned.compile(api.optimizers.Adam(rate), "sparse_categorical_crossentropy")
                pruned.fit(x[order], y[order], batch_size=batch, epochs=epochs, verbose=0, callbacks=callbacks)
                final = sparsity.strip_pruning(pruned) if side == "tfmot" else tg.strip(pruned)
                found[side].append(top1(final, x_test, y_test))
                kernels = [w for w in final.get_weights() if w.ndim >= 2]
                zeros[side] = sum(int((w == 0).sum()) for w in kernels) / sum(w.size for w in kernels)
        for side in sides:
            values = [100 * v for v in found[side]]
            spread = f"{min(values):.2f} to {max(values):.2f}"
            print(f"{target:.0%} {side:7} {np.mean(values):.2f} % ({spread}), zeros {zeros[side]:.2%}", flush=True)


def top1(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    scores = np.asarray(model.predict(x, batch_size=500, verbose=0)).reshape(len(x), -1)
    return float((scores.argmax(-1) == y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("speed").add_argument("--rounds", type=int, default=25)
    commands.add_parser("select")
    scoring = commands.add_parser("accuracy")
    scoring.add_argument("--model", required=True)
    scoring.add_argument("--data", required=True)
    scoring.add_argument("--seeds", type=int, default=3)
    scoring.add_argument("--epochs", type=int, default=2)
    scoring.add_argument("--sparsity", type=float, nargs="+", default=[0.5, 0.75, 0.9])
    arguments = parser.parse_args()
    if arguments.command == "speed":
        speed(arguments.rounds)
    elif arguments.command == "select":
        select()
    else:
        accuracy(arguments.model, arguments.data, arguments.seeds, arguments.epochs, arguments.sparsity)


if __name__ == "__main__":
    main()
