"""born_again: a model taught by its own earlier generation (self-distillation).

Reference: T. Furlanello et al., "Born Again Neural Networks", 2018, arXiv:1805.04770.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from tfgreen.errors import invalid_value
from tfgreen.model.graph import check_built_model
from tfgreen.techniques.distill import Distiller
from tfgreen.training.distillation_loss import DistillationLoss
from tfgreen.training.distillation_losses import LogitsDistillation


def born_again(
    model: keras.Model,
    train: Callable[[Distiller], object],
    *,
    generations: int = 1,
    losses: Sequence[DistillationLoss] = (LogitsDistillation(temperature=1.0),),
    alpha: float = 0.5,
) -> list[keras.Model]:
    """Train new models of the same architecture, each taught by the one before.

    Args:
        model: A trained model: the first teacher. It is not changed.
        train: Compiles and fits the distiller it is given. Called once for each generation.
        generations: How many, >= 1.
        losses: As for ``tg.Distiller``. Layers go by the same names in teacher and student.
        alpha: As for ``tg.Distiller``.

    Returns:
        The students, first generation first. An ensemble of them is often better than the last.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built, or ``generations`` is below 1; or as ``tg.Distiller``.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
        >>> def train(distiller):
        ...     distiller.compile("adam", "sparse_categorical_crossentropy")
        ...     distiller.fit(np.ones((4, 8)), np.array([0, 1, 2, 0]), verbose=0)
        >>> len(tg.born_again(model, train, generations=2))
        2
    """
    check_built_model(model)
    if isinstance(generations, bool) or not isinstance(generations, int) or generations < 1:
        raise invalid_value("generations", expected="an integer >= 1", received=generations)
    students: list[keras.Model] = []
    for _ in range(generations):
        teacher = students[-1] if students else model
        students.append(_newborn(model))
        train(Distiller(teacher=teacher, student=students[-1], losses=losses, alpha=alpha))
    return students


def _newborn(model: keras.Model) -> keras.Model:
    """The same architecture with new initial weights."""
    return keras.models.clone_model(model)
