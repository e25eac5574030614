"""What ``bench_channels.py`` trains: slim models, with and without the original as teacher, and a wide network."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from common import augmented
from keras import ops

import tfgreen as tg

BATCH = 64
MASKED = 0.4  # of the epochs: in these the channels go one after the other
WARM_UP = 0.05  # of the steps
TEMPERATURE, FEATURES, LABELS = 4.0, 2.0, 0.1  # of the teacher's logits; what features and labels weigh


@keras.saving.register_keras_serializable(package="bench_channels")
class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """Cosine decay after a short warm-up, over ``steps`` of a training of which this is the part from ``first`` on."""

    def __init__(self, peak: float, steps: int, first: int = 0) -> None:
        warm = int(steps * WARM_UP)
        self._whole = keras.optimizers.schedules.CosineDecay(0.0, steps - warm, warmup_target=peak, warmup_steps=warm)
        self._first = first
        self._settings = {"peak": peak, "steps": steps, "first": first}

    def __call__(self, step: Any) -> Any:
        return self._whole(ops.cast(step, "float32") + self._first)

    def get_config(self) -> dict[str, Any]:
        return self._settings


def steps_in(count: int) -> int:
    """Batches of an epoch."""
    return -(-count // BATCH)


def fit(
    model: keras.Model, teacher: keras.Model | None, x: np.ndarray, y: np.ndarray, rates: Rates, epochs: int, seed: int,
    *callbacks: keras.callbacks.Callback,
) -> None:
    """Train a model on mirrored and shifted images: on labels, or on what a teacher returns and makes on the way."""
    keras.utils.set_random_seed(seed)
    learner = model
    if teacher is not None:
        streams = _streams(teacher)
        maps = keras.Model(teacher.inputs, [teacher.get_layer(name).output for name in streams])
        powers = [float(array.var(0).mean()) for array in maps.predict(x[:500], verbose=0)]
        losses = [tg.LogitsDistillation(TEMPERATURE), *(tg.FeatureDistillation("mse", name, name) for name in streams)]
        weights = [1.0, *(FEATURES / power for power in powers)]
        learner = tg.Distiller(teacher, model, losses, weights, student_loss_weight=LABELS)
    learner.compile(keras.optimizers.Adam(rates), "sparse_categorical_crossentropy")
    learner.fit(augmented(x, y, seed, BATCH), epochs=epochs, verbose=0, callbacks=list(callbacks))


def _streams(model: keras.Model) -> list[str]:
    """The layers behind the sums of residual blocks, whose outputs slim models have too."""
    names = [layer.name for layer in model.layers]
    sums = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Add)]
    return [names[names.index(name) + 1] for name in sums]


def softly(
    model: keras.Model, is_taught: bool, x: np.ndarray, y: np.ndarray, peak: float, epochs: int, seed: int,
    options: dict[str, Any],
) -> keras.Model:
    """A slim model: channels go to zero while the model trains, are taken out, and the rest trains on."""
    steps, masked = steps_in(len(x)), round(MASKED * epochs)
    end = int(0.9 * masked * steps)
    schedule = tg.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=end, frequency=max(1, steps // 10))
    soft, teacher = tg.mask_channels(model, schedule, **options), model if is_taught else None
    fit(soft, teacher, x, y, Rates(peak, epochs * steps), masked, seed, tg.UpdateCompression())
    slim = tg.remove_masked_channels(soft)
    fit(slim, teacher, x, y, Rates(peak, epochs * steps, masked * steps), epochs - masked, seed + 1000)
    return slim


def wide_network() -> keras.Model:
    """A residual network of a million parameters for 32 x 32 x 3 inputs of 0 to 255."""
    layers = keras.layers

    def block(x: Any, filters: int) -> Any:
        y = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(y))
        x = layers.Conv2D(filters, 1, strides=2, use_bias=False)(x)
        return layers.ReLU()(layers.Add()([x, y]))

    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(32, 3, padding="same", use_bias=False)(layers.Rescaling(1 / 127.5, -1)(inputs))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = block(block(block(x, 64), 128), 224)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
