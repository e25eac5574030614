"""tfgreen's clustering beside TFMOT's, in one run: step time, k-means time, accuracy and size after the same budget.

    python scripts/bench_clustering.py speed
    python scripts/bench_clustering.py kmeans
    python scripts/bench_clustering.py accuracy --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz
    python scripts/bench_clustering.py combined --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz

TFMOT clusters a tf_keras model, tfgreen a Keras 3 model of the same layers, weights, data and optimizer. Plain and
clustered training take turns; the median over the rounds of their ratio *in the same framework* is reported, for wall
clock and for CPU time of this process. Plain training runs twice, so its ratio to itself shows the noise.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import tracemalloc
from typing import Any

import keras
import numpy as np
from common import augmented, compare, load_data, resnet8, speed_cases, tfmot, timed, top1

import tfgreen as tg
from tfgreen.transforms.kmeans import initial_centroids, nearest


def speed(rounds: int) -> None:
    """Step time of clustered over plain training, for both sides; plain training twice, which shows the noise.

    The steps of a round are a multiple of those between two assignments.
    """
    for case in speed_cases():
        runs = case.plain()
        if case.api is keras:
            clustered = tg.cluster(case.network(keras), tg.ClusterConfig(number_of_clusters=16))
            runs["clustered"] = case.fit(clustered, [tg.UpdateCompression()])
        else:
            clustered = tfmot().clustering.keras.cluster_weights(case.network(case.api), 16)
            runs["clustered"] = case.fit(clustered, [])
        # TFMOT takes seconds for a step of the large network
        compare(case.title, runs, min(rounds, 5) if case.title == "dense tfmot" else rounds, case.steps)


def kmeans() -> None:
    """Seconds and memory to find 16 centroids of 16.7 million weights, and then to assign the weights to them."""
    for size in (1_048_576, 4_194_304, 16_777_216):
        weight = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
        found: list[Any] = []
        seconds = timed(lambda: found.append(initial_centroids(weight, 16)))
        assigning = timed(lambda: found.append(nearest(weight, found[0])))
        tracemalloc.start()
        initial_centroids(weight, 16)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        error = float(np.mean((weight - found[0][found[1]]) ** 2))
        print(
            f"{size:11,} k-means {seconds:.3f} s, assignment {assigning:.3f} s, mean squared error {error:.6f}, "
            f"peak memory {1 + peak / weight.nbytes:.2f} times the weight (the weight included)", flush=True,
        )  # fmt: skip


def train(model: Any, api: Any, data: tuple, epochs: int, seed: int, callbacks: list[Any]) -> None:
    x, y = data
    order, batch = np.random.default_rng(seed).permutation(len(x)), 128
    rate = api.optimizers.schedules.CosineDecay(1e-3, epochs * -(-len(x) // batch))
    model.compile(api.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x[order], y[order], batch_size=batch, epochs=epochs, verbose=0, callbacks=callbacks)


def accuracy(model_path: str, data_path: str, seeds: int, epochs: int, clusters: int) -> None:
    """Test accuracy with few values per kernel, mean and spread over seeds, TFMOT beside tfgreen's settings.

    TFMOT runs batch normalization with the statistics of the float model throughout. Here they follow the training, and
    are then taken once more from the training images, forward only; the accuracy without that is printed too.
    """
    import tf_keras

    dense_model, (training, test) = tg.load_model(model_path), load_data(data_path)
    twin = resnet8(tf_keras)
    twin.set_weights(dense_model.get_weights())
    print(f"float: {top1(dense_model, *test):.2%} (Keras 3), {top1(twin, *test):.2%} (tf_keras)", flush=True)
    sides: dict[str, dict[str, Any] | None] = {
        "tfmot": None,
        "tfgreen": {},
        "sum": {"gradient_aggregation": "sum"},
        "per channel": {"per_channel": True},
    }
    found: dict[str, list[float]] = {side: [] for side in sides}
    values: dict[str, int] = {}
    for seed in range(seeds):
        for side, settings in sides.items():
            if settings is None:
                tf_keras.utils.set_random_seed(seed)
                network = tf_keras.models.clone_model(twin)
                network.set_weights(twin.get_weights())
                clustered = tfmot().clustering.keras.cluster_weights(network, clusters)
                train(clustered, tf_keras, training, epochs, seed, [])
                final = tfmot().clustering.keras.strip_clustering(clustered)
            else:
                keras.utils.set_random_seed(seed)
                config = tg.ClusterConfig(number_of_clusters=clusters, seed=seed, **settings)
                clustered = tg.cluster(dense_model, config)
                before = top1(clustered, *test)
                train(clustered, keras, training, epochs, seed, [tg.UpdateCompression()])
                final = tg.strip(clustered)
                lagging = top1(final, *test)
                final = tg.recalibrate_batch_norm(final, training[0])
                print(f"seed {seed} {side:12} {before:.2%} before training, {lagging:.2%} after", flush=True)
            found[side].append(top1(final, *test))
            print(f"seed {seed} {side:12} {found[side][-1]:.2%}", flush=True)
            values[side] = max(len(np.unique(w)) for w in final.get_weights() if w.ndim >= 2)
    for side in sides:
        scores = [100 * score for score in found[side]]
        spread = f"{min(scores):.2f} to {max(scores):.2f}"
        print(f"{side:12} {np.mean(scores):.2f} % ({spread}), values per kernel at most {values[side]}", flush=True)


def combined(model_path: str, data_path: str, seeds: int, epochs: int) -> None:
    """Half of the weights zero, the others of 31 values, int8: each counted in the file that ships.

    Pruned, clustered and quantized for some epochs each, taught by the float model; the last on mirrored and shifted
    images.
    """
    dense_model, (training, test) = tg.load_model(model_path), load_data(data_path)
    reference = tg.convert(dense_model)
    print(f"float32: {top1(dense_model, *test):.2%}, .tflite {reference.size_bytes:,} bytes", flush=True)
    steps = epochs * -(-len(training[0]) // 128)

    def taught(student: Any) -> Any:
        losses = [tg.LogitsDistillation(temperature=4.0)]
        return tg.Distiller(dense_model, student, losses, student_loss_weight=0.3)

    def trained(student: Any, seed: int) -> Any:
        train(taught(student), keras, training, epochs, seed, [tg.UpdateCompression()])
        return tg.recalibrate_batch_norm(student, training[0])

    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        schedule = tg.PolynomialDecay(0.1, 0.5, begin_step=0, end_step=steps // 2, frequency=10)
        pruned = trained(tg.prune(dense_model, tg.PruneConfig(schedule=schedule, scope="erk")), seed)
        clustered = trained(tg.cluster(pruned, tg.ClusterConfig(number_of_clusters=32, seed=seed)), seed)
        config = tg.QuantizeConfig(calibration_data=training[0][:2048], calibration="mse", freeze_after=0)
        quantized = tg.quantize(clustered, config)
        scores = ", ".join(
            f"{name} {top1(model, *test):.2%}"
            for name, model in (("pruned", pruned), ("clustered", clustered), ("quantized", quantized))
        )
        rate = keras.optimizers.schedules.CosineDecay(3e-5, steps)
        learner = taught(quantized)
        learner.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        learner.fit(augmented(*training, seed), epochs=epochs, verbose=0, callbacks=[tg.UpdateCompression()])
        lite = tg.convert(quantized, tg.ConvertConfig(quantization="int8"))
        kernels = [w.values for w in lite.weights.values()]
        most = max(len(np.unique(kernel)) for kernel in kernels)
        zeros = sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.size for kernel in kernels)
        print(f"seed {seed} {scores}, trained and int8 {score(lite, *test):.2%}", flush=True)
        print(
            f"  int8 .tflite: zeros {zeros:.2%}, values per kernel at most {most}, {lite.size_bytes:,} bytes, gzip "
            f"{lite.gzip_bytes:,}, coded {lite.coded_bytes:,}: {reference.size_bytes / lite.coded_bytes:.2f} times "
            "smaller than the float32 .tflite", flush=True,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            size = tg.save_compressed(tg.strip(clustered), os.path.join(folder, "model.npz")).stat().st_size
        print(f"  coded Keras model: {size:,} bytes, {reference.size_bytes / size:.2f} times smaller", flush=True)


def score(lite: Any, x: np.ndarray, y: np.ndarray) -> float:
    return float((np.asarray(lite.predict(x)).reshape(len(x), -1).argmax(-1) == y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("speed").add_argument("--rounds", type=int, default=25)
    commands.add_parser("kmeans")
    for name in ("accuracy", "combined"):
        scoring = commands.add_parser(name)
        scoring.add_argument("--model", required=True)
        scoring.add_argument("--data", required=True)
        scoring.add_argument("--seeds", type=int, default=3)
        scoring.add_argument("--epochs", type=int, default=2 if name == "accuracy" else 4)
        if name == "accuracy":
            scoring.add_argument("--clusters", type=int, default=16)
    arguments = parser.parse_args()
    if arguments.command == "speed":
        speed(arguments.rounds)
    elif arguments.command == "kmeans":
        kmeans()
    elif arguments.command == "accuracy":
        accuracy(arguments.model, arguments.data, arguments.seeds, arguments.epochs, arguments.clusters)
    else:
        combined(arguments.model, arguments.data, arguments.seeds, arguments.epochs)


if __name__ == "__main__":
    main()
