"""TFMOT's tutorials, run twice: by TFMOT on tf_keras, as they were, and by ``tfgreen.compat`` on Keras 3.

    python scripts/bench_tutorials.py [--seeds 3] [--tutorials pruning on_device clustering qat pqat cqat pcqat]

Both run the same lines on the same network, data and starting weights, those of ``notebooks/tfmot_*.ipynb``. Printed
for each side, and as a mean over seeds: the accuracy of the file on 397 digits, the gzipped bytes of the file, its
zeros, and the most values that a kernel in it has.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from common import Split, tfmot
from sklearn.datasets import load_digits

import tfgreen as tg
from tfgreen import compat
from tfgreen.compat.clustering.keras import experimental as compat_experimental


@dataclasses.dataclass(frozen=True)
class Side:
    """What a tutorial needs: the names of TFMOT, a Keras, and the function of the experimental module."""

    names: Any
    keras: Any
    experimental: Any
    train: Split

    def fit(self, model: Any, rate: float, epochs: int, batch: int = 32, callbacks: Any = ()) -> Any:
        loss = self.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=self.keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
        model.fit(*self.train, batch_size=batch, epochs=epochs, verbose=0, callbacks=list(callbacks))
        return model


def network(api: Any) -> Any:
    layers = api.layers
    return api.Sequential([
        api.Input((8, 8)),
        layers.Reshape((8, 8, 1)),
        layers.Conv2D(12, (3, 3), activation="relu"),
        layers.MaxPooling2D((2, 2)),
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(10),
    ])


def mobile(api: Any) -> Any:
    """A network that XNNPACK can run sparse, of images of 16 x 16 x 3."""
    layers = api.layers

    def block(layer: Any) -> list[Any]:
        return [layer, layers.BatchNormalization(), layers.ReLU()]

    return api.Sequential([
        api.Input((16, 16, 3)),
        layers.ZeroPadding2D(1),
        *block(layers.Conv2D(16, (3, 3), strides=(2, 2), padding="valid")),
        *block(layers.DepthwiseConv2D((3, 3), padding="same")),
        *block(layers.Conv2D(64, (1, 1))),
        *block(layers.DepthwiseConv2D((3, 3), padding="same")),
        *block(layers.Conv2D(64, (1, 1))),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10),
    ])


def as_rgb(images: np.ndarray) -> np.ndarray:
    return np.repeat(images.repeat(2, axis=1).repeat(2, axis=2)[..., None], 3, axis=-1)


def pruning(side: Side, model: Any) -> Any:
    """80 % by a polynomial schedule."""
    sparsity = side.names.sparsity.keras
    schedule = sparsity.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=150, frequency=10)
    pruned = sparsity.prune_low_magnitude(model, pruning_schedule=schedule)
    return sparsity.strip_pruning(side.fit(pruned, 1e-3, 6, callbacks=[sparsity.UpdatePruningStep()]))


def on_device(side: Side, model: Any) -> Any:
    """75 % of the 1x1 convolutions, by the policy for XNNPACK."""
    sparsity = side.names.sparsity.keras
    schedule = sparsity.PolynomialDecay(0.25, 0.75, begin_step=0, end_step=300, frequency=10)
    policy = sparsity.PruneForLatencyOnXNNPack()
    pruned = sparsity.prune_low_magnitude(model, pruning_schedule=schedule, pruning_policy=policy)
    return sparsity.strip_pruning(side.fit(pruned, 2e-3, 10, callbacks=[sparsity.UpdatePruningStep()]))


def half_pruned(side: Side, model: Any) -> Any:
    sparsity = side.names.sparsity.keras
    schedule = sparsity.ConstantSparsity(0.5, begin_step=0, frequency=20)
    pruned = sparsity.prune_low_magnitude(model, pruning_schedule=schedule)
    return sparsity.strip_pruning(side.fit(pruned, 1e-3, 3, callbacks=[sparsity.UpdatePruningStep()]))


def clustering(side: Side, model: Any) -> Any:
    """16 clusters."""
    return clustered(side, side.names.clustering.keras.cluster_weights, model, 16, 1e-4)


def clustered(side: Side, cluster: Callable[..., Any], model: Any, count: int, rate: float, **options: Any) -> Any:
    names = side.names.clustering.keras
    options["cluster_centroids_init"] = names.CentroidInitialization.KMEANS_PLUS_PLUS
    return names.strip_clustering(side.fit(cluster(model, number_of_clusters=count, **options), rate, 3))


def qat(side: Side, model: Any) -> Any:
    """The whole model."""
    return side.fit(side.names.quantization.keras.quantize_model(model), 1e-3, 2, 100)


def preserving(side: Side, model: Any, scheme: Any) -> Any:
    quantization = side.names.quantization.keras
    annotated = quantization.quantize_annotate_model(model)
    return side.fit(quantization.quantize_apply(annotated, scheme), 1e-3, 2, 128)


def pqat(side: Side, model: Any) -> Any:
    """50 % zeros, preserved."""
    scheme = side.names.experimental.combine.Default8BitPrunePreserveQuantizeScheme()
    return preserving(side, half_pruned(side, model), scheme)


def cqat(side: Side, model: Any) -> Any:
    """8 clusters, preserved."""
    few = clustered(side, side.names.clustering.keras.cluster_weights, model, 8, 1e-3)
    combine = side.names.experimental.combine
    return preserving(side, few, combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=False))


def pcqat(side: Side, model: Any) -> Any:
    """50 % zeros and 8 clusters, preserved."""
    few = half_pruned(side, model)
    few = clustered(side, side.experimental.cluster_weights, few, 8, 1e-3, preserve_sparsity=True)
    combine = side.names.experimental.combine
    return preserving(side, few, combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True))


TUTORIALS = {each.__name__: each for each in (pruning, on_device, clustering, qat, pqat, cqat, pcqat)}
FLOAT = ("pruning", "on_device", "clustering")


def file_of(side: Side, model: Any, quantized: bool) -> tg.LiteRTModel:
    """The ``.tflite`` file: by tfgreen, or as TFMOT's tutorials make it."""
    if side.keras is keras:
        return tg.convert(model, quantization="int8" if quantized else "float32")
    import tensorflow as tf

    call = tf.function(lambda x: model(x, training=False))
    concrete = call.get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:]), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT] if quantized else []
    return tg.LiteRTModel(converter.convert())


def figures(lite: tg.LiteRTModel, test: Split) -> list[float]:
    values = max(len(np.unique(weight.values)) for weight in lite.weights.values())
    return [100 * lite.evaluate(*test), lite.gzip_bytes, 100 * lite.sparsity, values]


def run(tutorials: list[str], seeds: int) -> None:
    import tf_keras

    original = tfmot()
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster as experimental

    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8)
    print("| tutorial | side | accuracy | gzip bytes | zeros | values |\n|---|---|---|---|---|---|", flush=True)
    for name in tutorials:
        made, rate, x = (mobile, 1e-2, as_rgb(images)) if name == "on_device" else (network, 1e-3, images)
        train, test = (x[:1400], labels[:1400]), (x[1400:], labels[1400:])
        sides = {
            "TFMOT": Side(original, tf_keras, experimental, train),
            "compat": Side(compat, keras, compat_experimental, train),
        }
        found: dict[str, list[list[float]]] = {title: [] for title in sides}
        for seed in range(seeds):
            keras.utils.set_random_seed(seed)
            base = sides["compat"].fit(made(keras), rate, 12)
            for title, side in sides.items():
                side.keras.utils.set_random_seed(seed)
                model = made(side.keras)
                model.set_weights(base.get_weights())
                lite = file_of(side, TUTORIALS[name](side, model), name not in FLOAT)
                found[title].append(figures(lite, test))
        for title, rows in found.items():
            accuracy, size, zeros, values = np.mean(rows, axis=0)
            print(f"| {name} | {title} | {accuracy:.1f} % | {size:,.0f} | {zeros:.1f} % | {values:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tutorials", nargs="+", choices=TUTORIALS, default=list(TUTORIALS))
    arguments = parser.parse_args()
    run(arguments.tutorials, arguments.seeds)
