"""Pruning, then clustering, then quantization-aware training: tfgreen beside TFMOT in one run, stage by stage.

    python scripts/bench_combined.py --data mnist.npz --train 1000 --seeds 4
    python scripts/bench_combined.py --data mnist.npz --network normalized --chain

Both sides start from the same trained weights, of a network in Keras 3 and in tf_keras, and train each stage with the
same optimizer, batches and epochs. TFMOT's way is that of its tutorial: prune, strip, cluster with preserve_sparsity,
strip, quantize with the scheme that preserves both; tfgreen's is the same, or with ``--chain`` without strip. Printed
are the top-1 accuracies of the models after each stage, that of the ``.tflite`` file over the whole test split, and
what is left of zeros and shared values in the file.
"""

from __future__ import annotations

import argparse
from typing import Any

import keras
import numpy as np
from bench_quantization import convert_twin
from common import Split, load_data, tfmot, top1

import tfgreen as tg

STAGES = ("float", "pruned", "clustered", "quantized", "file")


def plain(api: Any, shape: tuple[int, ...], outputs: str | None) -> Any:
    """The network of TFMOT's tutorials: a convolution and a dense layer."""
    layers = api.layers
    return api.Sequential([
        api.Input(shape),
        layers.Conv2D(12, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10, activation=outputs),
    ])


def normalized(api: Any, shape: tuple[int, ...], outputs: str | None) -> Any:
    """Two convolutions with batch normalization, a hidden layer and dropout."""
    layers = api.layers
    return api.Sequential([
        api.Input(shape),
        layers.Conv2D(16, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(32, 3, strides=2, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dropout(0.3),
        layers.Dense(10, activation=outputs),
    ])


NETWORKS = {"plain": plain, "normalized": normalized}


class Side:
    """One framework's way through the stages."""

    def __init__(self, api: Any, train: Split, arguments: argparse.Namespace) -> None:
        self.api = api
        self.train = train
        self.options = arguments

    def fit(self, model: Any, rate: float, epochs: int, seed: int, callbacks: Any = ()) -> Any:
        self.api.utils.set_random_seed(seed)
        loss = self.api.losses.SparseCategoricalCrossentropy(from_logits=self.options.outputs is None)
        model.compile(getattr(self.api.optimizers, self.options.optimizer)(rate), loss)
        model.fit(*self.train, batch_size=self.options.batch, epochs=epochs, verbose=0, callbacks=list(callbacks))
        return model

    def sparsity_schedule(self) -> dict[str, int | float]:
        return {"target_sparsity": self.options.sparsity, "begin_step": 0, "frequency": 10}


class Ours(Side):
    def stages(self, model: Any, seed: int) -> Any:
        options, update = self.options, [tg.UpdateCompression()]
        pruned = tg.prune(model, schedule=tg.ConstantSparsity(**self.sparsity_schedule()))
        strip = (lambda model: model) if options.chain else tg.strip
        pruned = strip(self.fit(pruned, options.prune_rate, options.prune_epochs, seed, update))
        yield pruned
        clustered = tg.cluster(pruned, number_of_clusters=options.clusters, preserve_sparsity=True)
        clustered = strip(self.fit(clustered, options.cluster_rate, options.cluster_epochs, seed, update))
        yield clustered
        quantized = tg.quantize(
            clustered, calibration_data=self.train[0][:512], preserve_sparsity=True, preserve_clusters=True
        )
        yield self.fit(quantized, options.quantize_rate, options.quantize_epochs, seed, update)
        yield tg.convert(quantized, quantization="int8")


class Theirs(Side):
    def stages(self, model: Any, seed: int) -> Any:
        from tensorflow_model_optimization.python.core.clustering.keras.experimental.cluster import cluster_weights

        options, api = self.options, tfmot()
        sparsity, clustering = api.sparsity.keras, api.clustering.keras
        pruned = sparsity.prune_low_magnitude(model, sparsity.ConstantSparsity(**self.sparsity_schedule()))
        pruned = self.fit(pruned, options.prune_rate, options.prune_epochs, seed, [sparsity.UpdatePruningStep()])
        pruned = sparsity.strip_pruning(pruned)
        yield pruned
        init = clustering.CentroidInitialization.KMEANS_PLUS_PLUS
        clustered = cluster_weights(pruned, options.clusters, init, preserve_sparsity=True)
        clustered = self.fit(clustered, options.cluster_rate, options.cluster_epochs, seed)
        clustered = clustering.strip_clustering(clustered)
        yield clustered
        quantize = api.quantization.keras
        annotated = quantize.quantize_annotate_model(clustered)
        scheme = api.experimental.combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True)
        quantized = self.fit(
            quantize.quantize_apply(annotated, scheme), options.quantize_rate, options.quantize_epochs, seed
        )
        yield quantized
        yield convert_twin(quantized)


def kept(lite: Any) -> str:
    """The share of zeros in a file, and how many values its kernels take."""
    values = [len(np.unique(weight.values)) for weight in lite.weights.values()]
    return f"zeros {lite.sparsity:.1%}, values {' '.join(map(str, values))}"


def run(arguments: argparse.Namespace) -> None:
    import tf_keras

    network = NETWORKS[arguments.network]
    (x, y), (x_test, y_test) = load_data(arguments.data)
    x, x_test = x[..., None] / x.max(), x_test[..., None] / x.max()
    order = np.random.default_rng(0).permutation(len(x))[: arguments.train]
    train, test = (x[order], y[order]), (x_test, y_test)
    tfmot()
    found: dict[str, list[list[float]]] = {"tfgreen": [], "tfmot": []}
    for seed in range(arguments.seeds):
        keras.utils.set_random_seed(seed)
        model, twin = (network(api, x.shape[1:], arguments.outputs) for api in (keras, tf_keras))
        ours, theirs = Ours(keras, train, arguments), Theirs(tf_keras, train, arguments)
        ours.fit(model, 1e-3, arguments.float_epochs, seed)
        twin.set_weights(model.get_weights())
        for name, side, start in (("tfgreen", ours, model), ("tfmot", theirs, twin)):
            scores = [top1(start, *test)]
            for result in side.stages(start, seed):
                is_file = isinstance(result, tg.LiteRTModel)
                scores.append(result.evaluate(*test) if is_file else top1(result, *test))
            found[name].append(scores)
            shown = "  ".join(f"{stage} {score:.2%}" for stage, score in zip(STAGES, scores))
            print(f"seed {seed} {name:8} {shown}  {result.size_bytes:,} bytes, {kept(result)}", flush=True)
    for name, rows in found.items():
        means = "  ".join(f"{stage} {score:.2%}" for stage, score in zip(STAGES, np.mean(rows, axis=0)))
        print(f"mean   {name:8} {means}", flush=True)
    ahead = [ours[-1] - theirs[-1] for ours, theirs in zip(found["tfgreen"], found["tfmot"])]
    print(f"tfgreen's file less TFMOT's: {np.mean(ahead):+.2%} ({min(ahead):+.2%} to {max(ahead):+.2%})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--network", choices=NETWORKS, default="plain")
    parser.add_argument("--optimizer", default="Adam")
    parser.add_argument("--outputs", choices=("softmax",), help="the last activation; logits without")
    for name, default in (("train", 1000), ("seeds", 4), ("batch", 32), ("clusters", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("float", 10), ("prune", 4), ("cluster", 3), ("quantize", 3)):
        parser.add_argument(f"--{name}-epochs", type=int, default=default)
    for name, default in (("prune", 1e-3), ("cluster", 1e-4), ("quantize", 1e-3)):
        parser.add_argument(f"--{name}-rate", type=float, default=default)
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--chain", action="store_true", help="leave tfgreen's masks and codebooks in their chains")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
