"""tfgreen's Distiller beside Keras's and the hand-written one of the Keras examples, in one run.

    python scripts/bench_distillation.py loss
    python scripts/bench_distillation.py speed
    python scripts/bench_distillation.py accuracy --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz

``loss`` compares values with float64. ``speed`` trains MLPerf Tiny's ResNet-8 with a teacher of the same size; all
kinds of training take turns, and the median over the rounds of the ratio to plain training is reported. ``accuracy``
trains a small CNN of a third of ResNet-8's MACs, alone and with each loss, on the same augmented batches.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from common import augmented, compare, load_data, resnet8, top1
from scipy.special import log_softmax

import tfgreen as tg
from tfgreen.distillation.divergences import kl_divergence

CLASSES, BATCH = 10, 128


class HandWritten(keras.Model):
    """The Distiller of the Keras example "Knowledge Distillation", for models that return logits."""

    def __init__(self, student: keras.Model, teacher: keras.Model, alpha: float, temperature: float) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        self.alpha, self.temperature = alpha, temperature
        self.distillation_loss_fn = keras.losses.KLDivergence()

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        teacher_pred = self.teacher(x, training=False)
        student_loss = super().compute_loss(x, y, y_pred, sample_weight)
        distillation_loss = self.distillation_loss_fn(
            keras.ops.softmax(teacher_pred / self.temperature, axis=1),
            keras.ops.softmax(y_pred / self.temperature, axis=1),
        ) * (self.temperature**2)
        return self.alpha * student_loss + (1 - self.alpha) * distillation_loss

    def call(self, x, training=None):
        return self.student(x, training=training)


def loss() -> None:
    """Largest relative difference from ``KL x T^2`` in float64, each where that is above 1e-3, on 200 samples."""

    def keras_loss(loss: Any) -> Callable[[Any, Any, float], np.ndarray]:
        def values(teacher: Any, student: Any, temperature: float) -> np.ndarray:
            whole = keras.distillation.LogitsDistillation(temperature=temperature, loss=loss)
            rows = zip(teacher, student)
            return np.array([float(whole.compute_loss(a[None], b[None])) for a, b in rows])

        return values

    def hand_written(teacher: Any, student: Any, temperature: float) -> np.ndarray:
        pair = [keras.ops.softmax(keras.ops.convert_to_tensor(z) / temperature, axis=1) for z in (teacher, student)]
        return np.asarray(keras.losses.KLDivergence(reduction=None)(*pair)) * temperature**2

    sides: dict[str, Callable[[Any, Any, float], Any]] = {
        "tfgreen": kl_divergence,
        "keras, default": keras_loss("kl_divergence"),
        "keras, KLDivergence()": keras_loss(keras.losses.KLDivergence()),
        "hand-written": hand_written,
    }
    print(f"{'logits up to':14}{'T':>5}  " + "".join(f"{side:>24}" for side in sides))
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float16"):
        for size in (1, 10, 100):
            for temperature in (0.5, 1.0, 4.0, 20.0):
                teacher, student = rng.uniform(-size, size, (2, 200, CLASSES)).astype(dtype)
                log_p, log_q = (log_softmax(z.astype("float64") / temperature, -1) for z in (teacher, student))
                expected = temperature**2 * np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)
                cells = []
                for values in sides.values():
                    got = np.asarray(values(teacher, student, temperature), "float64")
                    cells.append(f"{np.max((np.abs(got - expected) / expected)[expected > 1e-3]):24.1e}")
                print(f"{dtype} {size:5} {temperature:5}  {''.join(cells)}", flush=True)


def speed(rounds: int, steps: int) -> None:
    """Step time over plain training."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(BATCH, 32, 32, 3)).astype("float32"), rng.integers(0, CLASSES, BATCH)
    batches = tf.data.Dataset.from_tensors((x, y))
    teacher = resnet8(keras)
    features = next(layer.name for layer in teacher.layers[::-1] if isinstance(layer, keras.layers.Activation))

    def distiller(losses: list[Any], **options: Any) -> keras.Model:
        return tg.Distiller(teacher, resnet8(keras), losses, **options)

    def keras_distiller(*losses: Any) -> keras.Model:
        student, frozen = resnet8(keras), resnet8(keras)  # it freezes the teacher that it is given
        return keras.distillation.Distiller(frozen, student, list(losses), student_loss_weight=0.1)

    keras_logits = keras.distillation.LogitsDistillation(4.0, keras.losses.KLDivergence())
    student = resnet8(keras)
    ours = next(layer.name for layer in student.layers[::-1] if isinstance(layer, keras.layers.Activation))
    feature = tg.FeatureDistillation("mse", features, ours)
    runs = {kind: fit(resnet8(keras), batches, steps) for kind in ("plain", "plain again")}
    runs["tfgreen logits"] = fit(distiller([tg.LogitsDistillation(4.0)]), batches, steps)
    with tempfile.TemporaryDirectory() as folder:
        cached = distiller([tg.LogitsDistillation(4.0)], cache=tg.TeacherCache(Path(folder) / "cache"))
        runs["tfgreen cached"] = fit(cached, cached.with_teacher(batches).cache(), steps)
        with_feature = tg.Distiller(teacher, student, [tg.LogitsDistillation(4.0), feature])
        runs["tfgreen feature"] = fit(with_feature, batches, steps)
        runs["keras logits"] = fit(keras_distiller(keras_logits), batches, steps)
        runs["keras feature"] = fit(_keras_with_feature(keras_logits), batches, steps)
        runs["hand-written"] = fit(HandWritten(resnet8(keras), resnet8(keras), 0.1, 4.0), batches, steps)
        compare("resnet8", runs, rounds, steps)


def _keras_with_feature(logits: Any) -> keras.Model:
    models = [resnet8(keras), resnet8(keras)]
    names = [next(la.name for la in m.layers[::-1] if isinstance(la, keras.layers.Activation)) for m in models]
    feature = keras.distillation.FeatureDistillation("mse", *names)
    return keras.distillation.Distiller(*models, [logits, feature], student_loss_weight=0.1)


def fit(model: keras.Model, batches: tf.data.Dataset, steps: int) -> Callable[[], Any]:
    """A call that trains for ``steps`` steps, warmed up."""
    batches = batches.cache().repeat()
    model.compile("adam", "sparse_categorical_crossentropy")

    def call() -> Any:
        return model.fit(batches, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)

    call()
    return call


def small_cnn() -> keras.Model:
    """Five convolutions, 4.13 million MACs."""
    layers = keras.layers
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(x)
    for index, (filters, stride) in enumerate(((16, 1), (24, 2), (24, 1), (40, 2), (40, 1))):
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        x = layers.ReLU(name=f"relu_{index}")(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x), name="small_cnn")


def accuracy(model_path: str, data_path: str, seeds: int, epochs: int) -> None:
    """Test accuracy alone and with each loss, mean and spread over seeds."""
    (x, y), (x_test, y_test) = load_data(data_path)
    teacher = tg.load_model(model_path)
    macs = [tg.profile(model).macs for model in (small_cnn(), teacher)]
    print(f"teacher {top1(teacher, x_test, y_test):.2%}; MACs {macs[0]:,} of {macs[1]:,} ({macs[0] / macs[1]:.1%})")
    maps = [layer.name for layer in teacher.layers if isinstance(layer, keras.layers.Activation)]
    logits = tg.LogitsDistillation(temperature=4.0)
    kinds: dict[str, list[Any]] = {
        "alone": [],
        "KL": [logits],
        "DKD": [tg.DecoupledDistillation(temperature=4.0, beta=2.0)],
        "DIST": [tg.RelationalDistillation(beta=2.0, gamma=2.0)],
        "features": [tg.FeatureDistillation("mse", maps[-1], "relu_4")],
        "attention": [tg.AttentionTransfer(maps[-1], "relu_4")],
        "KL + features": [logits, tg.FeatureDistillation("mse", maps[-1], "relu_4")],
    }
    shares = {"features": 0.5, "attention": 0.5}
    weights = {"attention": [10.0], "KL + features": [1.0, 0.5]}
    steps = epochs * -(-len(x) // BATCH)
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for seed in range(seeds):
        for kind, losses in kinds.items():
            keras.utils.set_random_seed(seed)
            student = small_cnn()
            model = student
            if losses:
                model = tg.Distiller(teacher, student, losses, weights.get(kind), shares.get(kind, 0.1))
            rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
            model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
            model.fit(augmented(x, y, seed), epochs=epochs, shuffle=False, verbose=0)
            found[kind].append(100 * top1(student, x_test, y_test))
            print(f"seed {seed} {kind:14} {found[kind][-1]:.2f} %", flush=True)
    alone = np.mean(found["alone"])
    for kind, values in found.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"{kind:14} {np.mean(values):.2f} % ({spread}), {np.mean(values) - alone:+.2f} points", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("loss")
    timing = commands.add_parser("speed")
    timing.add_argument("--rounds", type=int, default=25)
    timing.add_argument("--steps", type=int, default=8)
    scoring = commands.add_parser("accuracy")
    scoring.add_argument("--model", required=True)
    scoring.add_argument("--data", required=True)
    scoring.add_argument("--seeds", type=int, default=3)
    scoring.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    if arguments.command == "loss":
        loss()
    elif arguments.command == "speed":
        speed(arguments.rounds, arguments.steps)
    else:
        accuracy(arguments.model, arguments.data, arguments.seeds, arguments.epochs)


if __name__ == "__main__":
    main()
