"""profile_pipeline: the share of a training step that is spent waiting for data."""

from __future__ import annotations

import dataclasses
import time

import keras
import tensorflow as tf

from tfgreen.checks import check_instance, check_integer
from tfgreen.errors import invalid_value
from tfgreen.model.internals import build_metrics
from tfgreen.model.paths import check_built_model
from tfgreen.model.rebuild import check_compiled, compiled_copy
from tfgreen.tables import SentenceResult
from tfgreen.training.check_batches import check_batches

_WARM_UP = 3  # steps: tracing, and the first fill of the buffers
_BOTTLENECK = 0.1  # of a step, below which faster data would not be noticed


@dataclasses.dataclass(frozen=True, repr=False)
class PipelineProfile(SentenceResult):
    """How a dataset keeps up with a training.

    Attributes:
        waiting_share: Share of the time of a step, in [0, 1], in which the model waits for its batch.
        step_ms: Mean milliseconds of a step, with the waiting.
        samples_per_second: Samples that the training gets through.
        steps: Steps that were timed.
    """

    waiting_share: float
    step_ms: float
    samples_per_second: float
    steps: int

    @property
    def is_bottleneck(self) -> bool:
        """Whether a faster pipeline would make the training noticeably faster: by a tenth or more."""
        return self.waiting_share >= _BOTTLENECK

    def __str__(self) -> str:
        verdict = (
            f"a faster pipeline would save up to {self.waiting_share:.0%} of the training"
            if self.is_bottleneck
            else "the pipeline is not the bottleneck"
        )
        return (
            f"{self.waiting_share:.1%} of a step of {self.step_ms:.3g} ms is spent waiting for data "
            f"({self.samples_per_second:,.0f} samples per second, {self.steps} steps): {verdict}."
        )


def profile_pipeline(model: keras.Model, dataset: tf.data.Dataset, steps: int = 50) -> PipelineProfile:
    """Train a copy of a compiled model for some steps, and time how long each waits for its batch.

    Args:
        model: A built and compiled model. It is not changed.
        dataset: Batches as ``fit`` takes them, at least six.
        steps: Steps to time at most, after three that warm up. A step that is the first of its batch size, as the last
            of an epoch may be, is made ready in that step and is left out.

    Raises:
        TypeError: An argument is of another type.
        ValueError: The model is not built or not compiled, the dataset has too few batches, or they do not fit.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> batches = tg.pipeline((np.ones((80, 4), "float32"), np.ones((80, 1))), batch=8)
        >>> 0 <= tg.profile_pipeline(model, batches).waiting_share <= 1
        True
    """
    check_built_model(model)
    check_instance("dataset", dataset, tf.data.Dataset, "a tf.data.Dataset of batches")
    check_integer("steps", steps, minimum=3)
    check_compiled(model)
    check_batches(model, dataset, "dataset")
    copy = compiled_copy(model)
    step = tf.function(copy.train_step, reduce_retracing=True, jit_compile=bool(copy.jit_compile))
    waits, whole, samples, seen = list[float](), list[float](), list[int](), set[tuple[object, ...]]()
    iterator = iter(dataset)
    for number in range(_WARM_UP + steps):
        start = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            break
        got = time.perf_counter()
        if number == 0:
            build_metrics(copy, batch)
        shapes = tuple(tuple(leaf.shape) for leaf in keras.tree.flatten(batch))
        traced = step.experimental_get_tracing_count()
        keras.tree.map_structure(keras.ops.convert_to_numpy, step(batch))  # until it has ended
        end = time.perf_counter()
        # A batch of another size, as the last one may be, is traced, and XLA compiles each size anew.
        is_first = step.experimental_get_tracing_count() > traced or bool(copy.jit_compile) and shapes not in seen
        seen.add(shapes)
        if number >= _WARM_UP and not is_first:
            waits.append(got - start)
            whole.append(end - start)
            samples.append(int(tf.shape(keras.tree.flatten(batch)[0])[0]))
    if len(whole) < 3:
        expected = f"at least {_WARM_UP + 3} batches of one size, of which {_WARM_UP} warm up"
        fix = "Pass smaller batches, or dataset.repeat()."
        raise invalid_value("dataset", expected=expected, received=len(whole) + _WARM_UP, fix=fix)
    total = sum(whole)
    return PipelineProfile(sum(waits) / total, 1e3 * total / len(whole), sum(samples) / total, len(whole))
