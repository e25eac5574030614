"""Bases of what users give to TFMOT's pruning: schedules, policies and layers of their own."""

from __future__ import annotations

import abc

import keras

from tfgreen.errors import InvalidValueError
from tfgreen.model.internals import is_container
from tfgreen.techniques.policies import PruneForLatencyOnXNNPack as XNNPackPolicy
from tfgreen.training.schedules import PolynomialDecay
from tfgreen.typing import PlainDict, Tensor


class PruningSchedule(abc.ABC):
    """Base of a schedule of one's own: called with the step it returns ``(should_prune, sparsity)``."""

    @abc.abstractmethod
    def __call__(self, step: int) -> tuple[bool | Tensor, float | Tensor]:
        """Whether the masks are computed anew at this step, and the share of zeros, in [0, 1)."""

    @abc.abstractmethod
    def get_config(self) -> PlainDict:
        """The arguments of the constructor."""

    @classmethod
    def from_config(cls, config: PlainDict) -> PruningSchedule:
        # Those of TFMOT say {"class_name": ..., "config": {...}}.
        return cls(**(config["config"] if set(config) == {"class_name", "config"} else config))

    @staticmethod
    def _should_prune_in_step(step: int, begin_step: int, end_step: int, frequency: int) -> bool:
        inside = begin_step <= step and (step <= end_step or end_step < 0)
        return bool(inside and (step - begin_step) % frequency == 0)

    @staticmethod
    def _validate_step(begin_step: int, end_step: int, frequency: int, allow_negative_1: bool) -> None:
        last = end_step if end_step != -1 or not allow_negative_1 else begin_step
        PolynomialDecay(0.0, 0.0, begin_step, last, frequency=frequency)

    @staticmethod
    def _validate_sparsity(sparsity: float, variable_name: str) -> None:
        if not 0.0 <= sparsity < 1.0:
            raise InvalidValueError(f"{variable_name} must be in range [0,1), received {sparsity}.")


class PrunableLayer(abc.ABC):
    """Mark of a layer that says itself which of its weights are pruned."""

    @abc.abstractmethod
    def get_prunable_weights(self) -> list[keras.Variable]:
        """The weights to prune; the layer is built."""


class PruningPolicy(abc.ABC):
    """Base of a policy of one's own: which layers of a model are pruned."""

    @abc.abstractmethod
    def allow_pruning(self, layer: keras.Layer) -> bool:
        """Whether a layer may be pruned."""

    @abc.abstractmethod
    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Raise a ValueError if a model is not fit for the policy."""


class PruneForLatencyOnXNNPack(PruningPolicy):
    """Prune the 1x1 convolutions that XNNPACK runs sparse; see :class:`tfgreen.PruneForLatencyOnXNNPack`."""

    def allow_pruning(self, layer: keras.Layer) -> bool:
        return isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1)

    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        if not isinstance(model, keras.Sequential) and not is_container(model):
            raise InvalidValueError("Subclassed models are not supported currently.")
        if not model.built:
            raise InvalidValueError("Unbuilt models are not supported currently.")
        try:
            XNNPackPolicy()(model)
        except InvalidValueError as error:
            raise InvalidValueError(f"{_in_words_of_tfmot(error)}: {error}") from error


def _in_words_of_tfmot(error: InvalidValueError) -> str:
    if "sparse inference to start" in str(error):
        return (
            "Could not find `Conv2D 3x3` layer with stride 2x2, `input filters == 3` and `VALID` padding and preceding "
            "`ZeroPadding2D` with `padding == 1` in all input branches of the model"
        )
    if "on the way to every output" in str(error):
        return "Could not find a `GlobalAveragePooling2D` layer in all output branches"
    name = error.subject.partition("(")[2].rstrip(")")
    return f"Layer {name} is not supported for the PruneForLatencyOnXNNPack pruning policy"
