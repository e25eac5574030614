"""The losses of a student's features: what the branches of a residual network join to, compared with the teacher's."""

from __future__ import annotations

import keras
import numpy as np

from tfgreen.distillation.feature_losses import FeatureDistillation
from tfgreen.model.internals import consumers_of, is_container
from tfgreen.typing import Arrays

_ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU)


def joins(model: keras.Model) -> list[str]:
    """The layers of a functional model that add its branches, from inputs to outputs; none of another model.

    Where all that goes on passes an activation, it is that: what it cuts off tells the student nothing.
    """
    if not is_container(model):
        return []
    return [_seen_at(layer).name for layer in model.layers if isinstance(layer, keras.layers.Add)]


def _seen_at(join: keras.layers.Add) -> keras.Operation:
    followers = consumers_of(join)
    return followers[0] if len(followers) == 1 and isinstance(followers[0], _ACTIVATIONS) else join


def feature_losses(
    teacher: keras.Model, student: keras.Model, samples: Arrays, weight: float
) -> tuple[list[FeatureDistillation], list[float]]:
    """A loss for each join that both models have, and what each counts: ``weight`` for features of power 1.

    Dividing by the teacher's power makes the joins count alike, whatever the scale of their features.
    """
    names = [name for name in joins(teacher) if name in joins(student)] if weight else []
    if not names:
        return [], []
    seen = keras.Model(teacher.input, [teacher.get_layer(name).output for name in names])
    maps = seen.predict_on_batch(samples)
    powers = [max(float(np.var(features, axis=0).mean()), 1e-12) for features in (maps if len(names) > 1 else [maps])]
    losses = [FeatureDistillation(teacher_layer_name=name, student_layer_name=name) for name in names]
    return losses, [weight / power for power in powers]
