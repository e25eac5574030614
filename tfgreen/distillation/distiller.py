"""Distiller: a Keras model that trains a student on labels and on what a teacher makes of the same data.

Reference: G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531. The numbers are in
``distillation/divergences.py``, the losses' settings in ``distillation/losses.py``, the running of the models in
``distillation/adapters.py``, the teacher's outputs on disk in ``distillation/teacher_cache.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfgreen.distillation.adapters import ComparedModel, compared_teacher
from tfgreen.distillation.base import (
    LayerLoss,
    check_schedule,
    deserialize_schedule,
    serialize_schedule,
    value_at,
)
from tfgreen.distillation.cached_teacher import CachedTeacher, split_rows
from tfgreen.distillation.matching import checked_losses, checked_weights, make_pair, pick, teachers_of
from tfgreen.distillation.teacher_cache import TeacherCache
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.capture import outputs_by_name


@keras.saving.register_keras_serializable(package="tfgreen")
class Distiller(keras.Model):
    """Train ``student`` on labels and on a teacher at once; use it like any Keras model.

    ``loss = alpha * compiled loss + (1 - alpha) * sum(weight * distillation loss)``, plus regularization losses.
    Sample weights, class weights and masks apply to both parts, normalized as in Keras. Each step runs the student
    once, in training mode, and the teacher once, in inference mode. ``evaluate`` reports the same loss; ``predict`` and
    the metrics are the student's.

    The student is trained in place: ``distiller.student`` is the product, and saving it saves nothing else. It may hold
    compressed layers (``tg.prune``); pass their callbacks to the distiller's ``fit``. The teacher is left as it is,
    its ``trainable`` flags included. Saving the distiller (``.keras``) saves student, teacher and optimizer, and
    training continues where it was.

    Args:
        teacher: A trained Keras model, an object with ``predict(x)`` such as a ``tg.LiteRTModel`` (it runs outside the
            graph, so ``jit_compile`` is off), or a list of several.
        student: A built Keras model. Its outputs are those of the teacher, in kind and number.
        losses: One ``tg.LogitsDistillation``, ``tg.FeatureDistillation`` ... or several.
        alpha: Share of the labels, in [0, 1]: a number, a ``keras.optimizers.schedules`` object, or a function of the
            training step. With 0, no loss need be compiled and no labels given.
        teacher_weights: What each of several teachers counts; they are divided by their sum. None: equally.
        cache: A ``tg.TeacherCache``: what the teacher returns is computed once, and read from disk after.
        name: Name of the distiller.

    Attributes:
        student: The student.
        teachers: The teachers.

    Raises:
        TypeError: A model, a loss, alpha or the cache is of another type.
        ValueError: A model is not built; there is no loss; alpha or a weight is out of range; outputs cannot be
            compared (the classes differ); it cannot be told whether an output is logits; a layer does not exist or its
            features do not fit.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
        >>> distiller = tg.Distiller(teacher=teacher, student=student, losses=[tg.LogitsDistillation(temperature=4.0)])
        >>> distiller.compile("adam", "sparse_categorical_crossentropy")
        >>> history = distiller.fit(np.ones((4, 8)), np.array([0, 1, 2, 0]), verbose=0)
        >>> sorted(history.history)
        ['distillation_loss', 'loss', 'student_loss']
    """

    def __init__(
        self,
        teacher: Any,
        student: keras.Model,
        losses: Any,
        alpha: Any = 0.1,
        *,
        teacher_weights: Sequence[float] | None = None,
        cache: TeacherCache | None = None,
        name: str = "distiller",
        **kwargs: Any,
    ) -> None:
        compared = ComparedModel(student, "student")
        # Inputs are for the student to cast; loss scaling goes by the policy of the model that is trained.
        super().__init__(name=name, **{"dtype": student.dtype_policy, **kwargs, "autocast": False})
        check_schedule("alpha", alpha, "a share in [0, 1]", lambda value: 0 <= value <= 1)
        if cache is not None and not isinstance(cache, TeacherCache):
            raise invalid_type("cache", expected="a tg.TeacherCache or None", received=cache)
        self.student = student
        self.alpha = alpha
        self.distillation_losses = checked_losses(losses)
        self._compared = compared
        # Inside objects that Keras does not look into: neither trained, frozen, counted nor saved with the student.
        listed = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
        self._teachers = tuple(compared_teacher(model, student) for model in listed)
        self.teacher_weights = checked_weights(teacher_weights, len(listed))
        self._pairs = tuple(
            make_pair(loss, index, self._teachers[index], compared)
            for loss in self.distillation_losses
            for index in teachers_of(loss, len(listed))
        )
        self.projections = [pair.projection for pair in self._pairs if pair.projection is not None]
        self.cache = cache
        self._cached = CachedTeacher(cache, self._teachers) if cache is not None else None
        self.student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self.distillation_loss_tracker = keras.metrics.Mean(name="distillation_loss")
        self.supports_jit = all(isinstance(item, ComparedModel) for item in self._teachers)
        self.built = True

    @property
    def teachers(self) -> tuple[Any, ...]:
        return tuple(item.model for item in self._teachers)

    @property
    def output_names(self) -> list[str] | None:
        """The student's, by which losses and metrics of several outputs are named."""
        return getattr(self.student, "output_names", None)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.student(split_rows(inputs)[0], training=training)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """``keras.Model.fit``. With a cache, ``x`` is arrays, or a dataset from :meth:`with_teacher`."""
        if self._cached is not None:
            x = self._cached.attach_to_fit(x, self.student)
        return super().fit(x, *args, **kwargs)

    def with_teacher(self, dataset: Any) -> Any:
        """Put the cached teacher outputs beside the inputs of a ``tf.data.Dataset``, to be shuffled with them.

        Args:
            dataset: Batches of ``x``, ``(x, y)`` or ``(x, y, sample_weight)``, finite, in the same order and with the
                same values each time it is read: before shuffling and random augmentation.

        Returns:
            A dataset of the same batches, in which ``x`` is a dictionary of inputs and teacher outputs. Unbatch,
            shuffle and batch it anew at will, and pass it to :meth:`fit`.

        Raises:
            ValueError: The distiller has no cache, or the dataset is infinite or yields nothing. While it is read:
                ``tf.errors.InvalidArgumentError`` where it yields something else than at first.
        """
        if self._cached is None:
            expected = "a distiller with cache=tg.TeacherCache(path)"
            raise invalid_value("with_teacher", expected=expected, received="one without")
        return self._cached.attach_to_dataset(dataset)

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        with self._compared.recording():
            return super().train_step(*args, **kwargs)

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        with self._compared.recording():
            return super().test_step(*args, **kwargs)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of one batch; arguments as ``keras.Model.compute_loss``."""
        kept = self._compared.capture.current
        if kept is None:  # no step is running: Keras asks once before the first, to build the compiled loss
            with self._compared.recording() as kept:
                y_pred = self(x, training=training)
        step = self.optimizer.iterations if self.optimizer is not None else 0
        alpha = value_at(self.alpha, step)
        batch = ops.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync  # each holds its share of the loss
        total = 0.0
        if self.alpha != 0:
            self._check_labels(y)
            hard = super().compute_loss(x, y, y_pred, sample_weight, training)
            self.student_loss_tracker.update_state(hard * replicas, sample_weight=batch)
            total += alpha * hard
        if self.alpha != 1:
            soft = self._distillation_loss(x, y, self._compared.read(y_pred, kept), y_pred, sample_weight, step)
            self.distillation_loss_tracker.update_state(soft * replicas, sample_weight=batch)
            # Regularization is in the hard part too, and so counts in full.
            total += (1.0 - alpha) * (soft + sum((ops.sum(ops.cast(loss, "float32")) for loss in self.losses), 0.0))
        return total

    def _distillation_loss(
        self, x: Any, y: Any, student: dict[str, Any], y_pred: Any, sample_weight: Any, step: Any
    ) -> Any:
        inputs, rows = split_rows(x)
        if rows is not None and self._cached is not None:
            teachers = self._cached.decode(rows)
        else:
            used = {pair.teacher for pair in self._pairs}
            teachers = [item.run(inputs) if index in used else {} for index, item in enumerate(self._teachers)]
        names = list(self._compared.heads)
        outputs = outputs_by_name(self.student, y_pred)
        total = 0.0
        for pair in self._pairs:
            theirs, ours = teachers[pair.teacher][pair.teacher_key], student[pair.student_key]
            # Keras keeps the mask on the output itself, not on the logits that it is the activation of.
            masked = ours if isinstance(pair.loss, LayerLoss) else outputs[pair.output]
            weight = None if sample_weight is None else pick(sample_weight, pair.output, names, "sample_weight")
            labels = None
            if pair.loss.needs_labels:
                self._check_labels(y, type(pair.loss).__name__)
                labels = pick(y, pair.output, names, "y")
            share = self.teacher_weights[pair.teacher] if pair.loss.teacher is None else 1.0
            total += share * pair.loss.weight * pair.value(theirs, ours, masked, weight, labels, step)
        return total

    def _check_labels(self, y: Any, needed_by: str = "") -> None:
        if y is None or (not needed_by and self.loss is None):
            raise invalid_value(
                needed_by or f"alpha {self.alpha}",
                expected="labels, and a loss in compile() to compare them with" if not needed_by else "labels",
                received="no labels" if y is None else "no loss",
                fix="Pass alpha=0 to train on the teacher alone." if not needed_by else "",
            )

    def save_own_variables(self, store: Any) -> None:
        """Save the teachers' weights, which Keras does not see."""
        for index, variable in enumerate(self._teacher_variables()):
            store[str(index)] = variable

    def load_own_variables(self, store: Any) -> None:
        """The inverse of :meth:`save_own_variables`."""
        for index, variable in enumerate(self._teacher_variables()):
            variable.assign(store[str(index)])

    def _teacher_variables(self) -> list[keras.Variable]:
        return [variable for model in self.teachers if isinstance(model, keras.Model) for variable in model.weights]

    def get_config(self) -> dict[str, Any]:
        others = [type(model).__name__ for model in self.teachers if not isinstance(model, keras.Model)]
        if others:
            raise invalid_value(
                f"distiller '{self.name}'",
                expected="Keras models as teachers, to be saved with it",
                received=others,
                fix="Save distiller.student, or only the weights with save_weights().",
            )
        return {
            "name": self.name,
            "teacher": [keras.saving.serialize_keras_object(model) for model in self.teachers],
            "student": keras.saving.serialize_keras_object(self.student),
            "losses": [keras.saving.serialize_keras_object(loss) for loss in self.distillation_losses],
            "alpha": serialize_schedule(self.alpha),
            "teacher_weights": list(self.teacher_weights),
            "cache": None if self.cache is None else keras.saving.serialize_keras_object(self.cache),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Distiller:
        def restored(value: Any) -> Any:
            return keras.saving.deserialize_keras_object(value, custom_objects)

        return cls(
            **{
                **config,
                "teacher": [restored(model) for model in config["teacher"]],
                "student": restored(config["student"]),
                "losses": [restored(loss) for loss in config["losses"]],
                "alpha": deserialize_schedule(config["alpha"]),
                "cache": None if config["cache"] is None else restored(config["cache"]),
            }
        )
