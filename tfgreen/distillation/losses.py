"""The losses of ``tg.Distiller`` as settings: what to compare, how, and how much it counts.

The numbers are in ``distillation/divergences.py``, the running of the models in ``distillation/distiller.py``.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import keras

from tfgreen.distillation import divergences as losses
from tfgreen.distillation.base import LayerLoss, LogitsLoss, check_not_negative, check_number
from tfgreen.errors import invalid_value
from tfgreen.model.capture import SOFTMAX


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitsDistillation(LogitsLoss):
    """Divergence of the student's from the teacher's probabilities, both at a temperature, times its square.

    G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.

    Attributes:
        loss: ``"kl_divergence"``, or ``"soft_cross_entropy"``, which has the same gradient.
        temperature, activation, from_logits, weight, output, teacher: See :class:`LogitsLoss`. With ``"sigmoid"`` each
            label is a distribution of its own, and the mean over the labels counts.

    Raises:
        ValueError, TypeError: A setting is out of range or of another type.

    Example:
        >>> import numpy as np
        >>> loss = LogitsDistillation(temperature=2.0)
        >>> teacher, student = np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]])
        >>> round(float(loss.values(teacher, student, activation="softmax", step=0)[0]), 4)
        0.4438
    """

    loss: str = "kl_divergence"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in ("kl_divergence", "soft_cross_entropy"):
            expected = "'kl_divergence' or 'soft_cross_entropy'"
            raise invalid_value("loss", expected=expected, received=repr(self.loss))

    def values(self, teacher: Any, student: Any, **context: Any) -> Any:
        name = self.loss if context["activation"] == SOFTMAX else f"binary_{self.loss}"
        return getattr(losses, name)(teacher, student, self.temperature_at(context["step"]))


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoupledDistillation(LogitsLoss):
    """Decoupled knowledge distillation (DKD): the target class and the other classes weighted apart.

    B. Zhao et al., "Decoupled Knowledge Distillation", 2022, arXiv:2203.08679. Needs the labels, softmax outputs and
    three classes or more to differ from :class:`LogitsDistillation`.

    Attributes:
        alpha: Weight of the divergence between the target and the rest, >= 0.
        beta: Weight of the divergence among the other classes, >= 0; the paper tunes it per teacher, from 1 to 10.
        temperature, activation, from_logits, weight, output, teacher: See :class:`LogitsLoss`.

    Raises:
        ValueError, TypeError: A setting is out of range or of another type.

    Example:
        >>> import numpy as np
        >>> loss = DecoupledDistillation(temperature=1.0, beta=0.0)  # only whether it is the target
        >>> teacher, student, labels = np.array([[5.0, 1.0, 0.0]]), np.array([[5.0, 0.0, 1.0]]), np.array([0])
        >>> float(loss.values(teacher, student, activation="softmax", labels=labels, step=0)[0])
        0.0
    """

    alpha: float = 1.0
    beta: float = 8.0

    softmax_only: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(alpha=self.alpha, beta=self.beta)

    def values(self, teacher: Any, student: Any, **context: Any) -> Any:
        temperature = self.temperature_at(context["step"])
        return losses.decoupled_kl(teacher, student, context["labels"], temperature, self.alpha, self.beta)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True, kw_only=True)
class RelationalDistillation(LogitsLoss):
    """DIST: keeps how classes relate within a sample, and samples within a class, instead of the exact probabilities.

    T. Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022, arXiv:2205.10536. The second relation is
    over the samples of one batch (of one replica), so small batches weaken it.

    Attributes:
        beta: Weight of the relations within a sample, >= 0.
        gamma: Weight of the relations within a class, >= 0.
        temperature: As in :class:`LogitsLoss`; the paper's default is 1.
        activation, from_logits, weight, output, teacher: See :class:`LogitsLoss`.

    Raises:
        ValueError, TypeError: A setting is out of range or of another type.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 5.0]])
        >>> RelationalDistillation().values(logits, logits + 3.0, step=0).numpy().round(6).tolist()
        [0.0, 0.0]
    """

    temperature: Any = 1.0
    beta: float = 1.0
    gamma: float = 1.0

    softmax_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(beta=self.beta, gamma=self.gamma)

    def values(self, teacher: Any, student: Any, **context: Any) -> Any:
        temperature = self.temperature_at(context["step"])
        return losses.relational(teacher, student, temperature, self.beta, self.gamma, context.get("weights"))


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureDistillation(LayerLoss):
    """Makes a layer of the student return what a layer of the teacher does.

    A. Romero et al., "FitNets", 2015, arXiv:1412.6550. Where the channels differ, the student's features first pass a
    trained linear projection (``keras.layers.Dense`` on the channels, which on an image is a 1x1 convolution); it
    belongs to the distiller, not to the student. Where height and width differ by a whole factor, the larger map is
    averaged down to the smaller.

    Attributes:
        loss: ``"mse"`` or ``"cosine"``.
        teacher_layer, student_layer: See :class:`LayerLoss`. Without both, the models' outputs are compared as they
            are: for regression.
        weight, output, teacher: See :class:`DistillationLoss`.

    Raises:
        ValueError, TypeError: A setting is out of range or of another type.

    Example:
        >>> import numpy as np
        >>> FeatureDistillation().values(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]])).numpy().tolist()
        [2.0]
    """

    loss: str = "mse"

    projects: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in ("mse", "cosine"):
            raise invalid_value("loss", expected="'mse' or 'cosine'", received=repr(self.loss))

    def values(self, teacher: Any, student: Any, **context: Any) -> Any:
        return (losses.mean_squared_error if self.loss == "mse" else losses.cosine_distance)(teacher, student)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionTransfer(LayerLoss):
    """Makes a layer of the student attend to the places that a layer of the teacher attends to.

    S. Zagoruyko and N. Komodakis, "Paying More Attention to Attention", 2017, arXiv:1612.03928. The channels need not
    agree, so nothing is projected. The squared distance of the maps is summed over the places; the paper's factor of
    about 1000 is for its mean.

    Attributes:
        power: Exponent of the activations in an attention map, > 0.
        teacher_layer, student_layer: See :class:`LayerLoss`; features of shape ``(batch, ..., channels)``.
        weight, output, teacher: See :class:`DistillationLoss`.

    Raises:
        ValueError, TypeError: A setting is out of range or of another type.

    Example:
        >>> import numpy as np
        >>> loss = AttentionTransfer(teacher_layer="conv5", student_layer="conv2")
        >>> float(loss.values(np.ones((1, 4, 8)), 2 * np.ones((1, 4, 3)))[0])
        0.0
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("power", self.power)
        if not self.power > 0:
            raise invalid_value("power", expected="a number > 0", received=self.power)
        if self.teacher_layer is None:
            raise invalid_value("AttentionTransfer", expected="teacher_layer and student_layer", received="none")

    def values(self, teacher: Any, student: Any, **context: Any) -> Any:
        return losses.attention_transfer(teacher, student, self.power, context.get("weights"))
