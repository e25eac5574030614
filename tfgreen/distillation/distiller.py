"""Distiller: a Keras model that trains a student on labels and on what a teacher makes of the same data.

A loss names what it compares: logits, outputs or the features of a layer. From there a tensor goes four steps, of which
this file holds the walk and the modules beside it the detail:

1. REQUEST, once, when the distiller is made: each loss asks both models for its tensor (``matching.request``).
2. READ, in each batch: both models run once, and the requested tensors are recorded while they do, or the teacher's are
   looked up (``adapters.Adapter.run``, ``cached_teacher.CachedTeacher.decode``).
3. MATCH: one tensor of the teacher beside one of the student, pooled and projected to one shape (``Match.matched``).
4. REDUCE: a value at each position (``divergences``), weighted, masked and averaged as Keras does (``Match.reduced``).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfgreen.checks import check_instance
from tfgreen.config import check_options
from tfgreen.distillation.adapters import KerasAdapter, Teacher, adapt_teacher
from tfgreen.distillation.arguments import checked_losses, checked_weights, shares_of
from tfgreen.distillation.cached_teacher import CachedTeacher, split_rows
from tfgreen.distillation.keras_losses import LossSetting
from tfgreen.distillation.losses import AnyLoss, check_schedule, value_at
from tfgreen.distillation.matching import Batch, request_all
from tfgreen.distillation.teacher_cache import TeacherCache
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.model.batch_norm import fuse_training
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.capture import outputs_by_name
from tfgreen.structure import leaf_names, pack
from tfgreen.typing import PlainDict, Samples, Schedule, Tensor, Tensors


@keras.saving.register_keras_serializable(package="tfgreen")
class Distiller(keras.Model):
    """Train ``student`` on labels and on a teacher at once; use it like any Keras model.

    ``loss = student_loss_weight * compiled loss + (1 - student_loss_weight) * sum(weight * distillation loss)``, plus
    regularization losses. Sample weights, class weights and masks apply to both parts, normalized as in Keras. Each
    step runs the student once, in training mode, and the teacher once, in inference mode. ``evaluate`` reports the same
    loss; ``predict`` and the metrics are the student's.

    Arguments and losses are those of ``keras.distillation``: a change of the import is enough. Keras's own loss objects
    and losses derived from them compute as they do there, with no sample weights and no masks.

    The student is trained in place: ``distiller.student`` is the product, and saving it saves nothing else. It may hold
    compressed layers (``tg.prune``); pass their callbacks to ``fit``. The teacher is left as it is. A saved distiller
    (``.keras``) holds student, teacher and optimizer, and trains on once loaded.

    Args:
        teacher: A trained Keras model, an object with ``predict(x)`` such as a ``tg.LiteRTModel`` (it runs outside the
            graph, so ``jit_compile`` is off), or a list of several.
        student: A built Keras model. Its outputs are those of the teacher, in kind and number.
        distillation_losses: One ``tg.LogitsDistillation``, ``tg.FeatureDistillation`` ... or several.
        distillation_loss_weights: What each counts, >= 0, None for 1: numbers or schedules, as the next argument.
        student_loss_weight: Share of the labels, in [0, 1]: a number, a ``keras.optimizers.schedules`` object, or a
            function of the training step. With 0, no loss need be compiled and no labels given.
        name: Name of the distiller.
        teacher_weights: What each of several teachers counts; they are divided by their sum. None: equally.
        cache: A ``tg.TeacherCache``: what the teacher returns is computed once, and read from disk after.

    Raises:
        TypeError: A model, a loss, a weight or the cache is of another type.
        ValueError: A model is not built; a weight of the teacher is NaN or infinite; there is no loss; a weight of
            losses or teachers is out of range; outputs or features do not fit; a layer does not exist; it cannot be
            told whether an output is logits.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> teacher = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
        >>> student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, activation="softmax")])
        >>> distiller = tg.Distiller(teacher, student, tg.LogitsDistillation(temperature=4.0), student_loss_weight=0.1)
        >>> distiller.compile("adam", "sparse_categorical_crossentropy")
        >>> history = distiller.fit(np.ones((4, 8)), np.array([0, 1, 2, 0]), verbose=0)
        >>> sorted(history.history)
        ['distillation_loss', 'loss', 'student_loss', 'total_loss']
    """

    def __init__(
        self,
        teacher: Teacher | Sequence[Teacher],
        student: keras.Model,
        distillation_losses: AnyLoss | Sequence[AnyLoss],
        distillation_loss_weights: Sequence[Schedule] | None = None,
        student_loss_weight: Schedule = 0.5,
        name: str = "distiller",
        *,
        teacher_weights: Sequence[float] | None = None,
        cache: TeacherCache | None = None,
        **kwargs: object,
    ) -> None:
        options = [*inspect.signature(type(self)).parameters][:-1]  # without kwargs, which Keras takes
        check_options(kwargs, [*options, "dtype", "trainable", "autocast"], "option of Distiller")
        reader = KerasAdapter(student, "student")
        # Inputs are for the student to cast; loss scaling goes by the policy of the model that is trained.
        super().__init__(name=name, **{"dtype": student.dtype_policy, **kwargs, "autocast": False})
        check_schedule("student_loss_weight", student_loss_weight, minimum=0, maximum=1)
        check_instance("cache", cache, (TeacherCache, type(None)), "a tg.TeacherCache or None")
        fuse_training(student)
        self.student = student
        self.student_loss_weight = student_loss_weight
        self.distillation_losses = checked_losses(distillation_losses)
        self.distillation_loss_weights = checked_weights(distillation_loss_weights, len(self.distillation_losses))
        self._student = reader
        # Inside objects that Keras does not look into: neither trained, frozen, counted nor saved with the student.
        listed = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
        self._teachers = tuple(adapt_teacher(model, student) for model in listed)
        self.teacher_weights = shares_of(teacher_weights, len(listed))
        # 1. REQUEST
        self._matches = request_all(
            zip(self.distillation_losses, self.distillation_loss_weights),
            list(zip(self._teachers, self.teacher_weights)),
            reader,
        )
        self.projections = [match.projection for match in self._matches if match.projection is not None]
        self.cache = cache
        self._cached = CachedTeacher(cache, self._teachers) if cache is not None else None
        self.student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self.distillation_loss_tracker = keras.metrics.Mean(name="distillation_loss")
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.supports_jit = all(isinstance(item, KerasAdapter) for item in self._teachers)
        self.built = True

    @property
    def teacher(self) -> Teacher | list[Teacher]:
        models = [item.model for item in self._teachers]
        return models[0] if len(models) == 1 else models

    @property
    def output_names(self) -> list[str] | None:
        """The student's, by which losses and metrics of several outputs are named."""
        return getattr(self.student, "output_names", None)

    def compile(
        self,
        optimizer: str | keras.Optimizer = "adam",
        loss: LossSetting | None = None,
        metrics: Sequence[object] | Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        """``keras.Model.compile``, with the defaults of ``keras.distillation.Distiller.compile``."""
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def compile_from_config(self, config: PlainDict) -> None:
        """Compile as the saved distiller was; Keras leaves this to a model with a ``compile`` of its own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def call(self, inputs: Tensors, training: bool | None = None) -> Tensors:
        return self.student(self._of_student(split_rows(inputs)[0]), training=training)

    def _of_student(self, inputs: Tensors) -> Tensors:
        """The inputs that the student takes, where the data holds more for the teacher: by name."""
        if not getattr(self.student, "inputs", None):
            return inputs
        structure = read_call_spec(self.student).structure
        names = leaf_names(structure)
        if isinstance(inputs, Mapping) and set(names) <= set(inputs):
            return pack(structure, inputs)
        several = isinstance(inputs, (list, tuple)) and len(inputs) > len(names)
        if several or (isinstance(inputs, Mapping) and not isinstance(structure, dict)):
            raise invalid_state(
                f"The student takes inputs {names}, and the data holds {list(inputs) if not several else len(inputs)}.",
                "Pass the data as a dict by name, and name each keras.Input of the student as the one it takes.",
            )
        return inputs

    def fit(self, x: Samples | None = None, *args: object, **kwargs: object) -> keras.callbacks.History:
        """``keras.Model.fit``. With a cache, ``x`` is arrays, or a dataset from :meth:`with_teacher`."""
        if self._cached is not None:
            x = self._cached.attach_to_fit(x, self.student)
        return super().fit(x, *args, **kwargs)

    def with_teacher(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Put the cached teacher outputs beside the inputs of a ``tf.data.Dataset``, to be shuffled with them.

        Args:
            dataset: Batches of ``x``, ``(x, y)`` or ``(x, y, sample_weight)``, finite, in the same order and with the
                same values each time it is read: before shuffling and random augmentation.

        Returns:
            The same batches for :meth:`fit`, with inputs and teacher outputs in ``x``, to be shuffled and rebatched.

        Raises:
            ValueError: The distiller has no cache, or the dataset is infinite or yields nothing. While it is read:
                ``tf.errors.InvalidArgumentError`` where it yields something else than at first.
        """
        if self._cached is None:
            raise invalid_state("with_teacher needs a distiller with a cache.", "Pass cache=tg.TeacherCache(path).")
        return self._cached.attach_to_dataset(dataset)

    def train_step(self, *args: object, **kwargs: object) -> PlainDict:
        with self._student.recording():
            return super().train_step(*args, **kwargs)

    def test_step(self, *args: object, **kwargs: object) -> PlainDict:
        with self._student.recording():
            return super().test_step(*args, **kwargs)

    def compute_loss(
        self,
        x: Tensors | None = None,
        y: Tensors | None = None,
        y_pred: Tensors | None = None,
        sample_weight: Tensors | None = None,
        training: bool = True,
    ) -> Tensor:
        """The loss of one batch; arguments as ``keras.Model.compute_loss``."""
        recorded = self._student.recorded
        if recorded is None or y_pred is None:  # no step is running, as when Keras builds the compiled loss
            with self._student.recording() as recorded:
                y_pred = self(x, training=training)
        step = self.optimizer.iterations if self.optimizer is not None else 0
        share = value_at(self.student_loss_weight, step)
        size = ops.shape(next(leaf for leaf in keras.tree.flatten(x) if leaf is not None))[0]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync  # each holds its share of the loss
        total: Any = 0.0
        if self.student_loss_weight != 0:
            if y is None or self.loss is None:
                raise invalid_value(
                    f"student_loss_weight {self.student_loss_weight}",
                    expected="labels, and a loss in compile() for them",
                    received="no labels" if y is None else "no loss",
                    fix="Pass student_loss_weight=0 to train on the teacher alone.",
                )
            hard = super().compute_loss(x, y, y_pred, sample_weight, training)
            self.student_loss_tracker.update_state(hard * replicas, sample_weight=size)
            total += share * hard
        if self.student_loss_weight != 1:
            batch = Batch(x, y, y_pred, outputs_by_name(self.student, y_pred), sample_weight, step)
            soft = self._distillation_loss(batch, recorded)
            self.distillation_loss_tracker.update_state(soft * replicas, sample_weight=size)
            # Regularization is in the hard part too, and so counts in full.
            total += (1.0 - share) * (soft + sum((ops.sum(ops.cast(loss, "float32")) for loss in self.losses), 0.0))
        self.total_loss_tracker.update_state(total * replicas, sample_weight=size)
        return total

    def _distillation_loss(self, batch: Batch, recorded: Mapping[str, list[Tensor]]) -> Tensor:
        # 2. READ
        student = self._student.read(batch.y_pred, recorded)
        inputs, rows = split_rows(batch.x)
        if rows is not None and self._cached is not None:
            teachers = self._cached.decode(rows)
        else:
            teachers = [item.run(inputs) if item.requests else {} for item in self._teachers]
        total: Any = 0.0
        for match in self._matches:
            # 3. MATCH
            tensors = match.matched(teachers[match.teacher], student, batch)
            # 4. REDUCE
            total += match.share * value_at(match.weight, batch.step) * match.reduced(*tensors, batch)
        return total

    def save_own_variables(self, store: MutableMapping[str, Tensor]) -> None:
        """Save the teachers' weights, which Keras does not see."""
        for number, variable in self._teacher_variables().items():
            store[number] = variable

    def load_own_variables(self, store: MutableMapping[str, Tensor]) -> None:
        """The inverse of :meth:`save_own_variables`."""
        for number, variable in self._teacher_variables().items():
            variable.assign(store[number])

    def _teacher_variables(self) -> dict[str, keras.Variable]:
        models = [item.model for item in self._teachers if isinstance(item, KerasAdapter)]
        return {str(number): variable for number, variable in enumerate(v for model in models for v in model.weights)}

    def get_config(self) -> PlainDict:
        others = [type(item.model).__name__ for item in self._teachers if not isinstance(item, KerasAdapter)]
        if others:
            expected = "Keras models as teachers, to be saved with it"
            fix = "Save distiller.student, or only the weights with save_weights()."
            raise invalid_value(f"distiller '{self.name}'", expected=expected, received=others, fix=fix)
        names = ["teacher", "student", "distillation_losses", "distillation_loss_weights", "student_loss_weight"]
        names += ["name", "teacher_weights", "cache"]
        return {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in names}

    @classmethod
    def from_config(cls, config: PlainDict, custom_objects: Mapping[str, object] | None = None) -> Distiller:
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})
