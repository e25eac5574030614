"""Losses between logits: divergences of the probabilities that they stand for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import keras

from tfgreen.checks import check_number
from tfgreen.distillation import divergences
from tfgreen.distillation.keras_losses import LossSetting, checked_loss, keras_values
from tfgreen.distillation.losses import LogitsLoss, LossContext
from tfgreen.model.capture import SIGMOID
from tfgreen.typing import Schedule, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

_DIVERGENCES = {"kl_divergence": divergences.kl_divergence, "categorical_crossentropy": divergences.soft_cross_entropy}
_KERAS_NAMES = {
    keras.losses.KLDivergence: "kl_divergence",
    keras.losses.CategoricalCrossentropy: "categorical_crossentropy",
}


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class LogitsDistillation(LogitsLoss):
    """Divergence of the student's from the teacher's probabilities, both at a temperature, times its square.

    G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531. For a model of language
    each token has its divergence; padding and tokens of weight 0 are left out.

    Attributes:
        loss: ``"kl_divergence"`` (here a divergence), ``"categorical_crossentropy"``, which
            has the same gradient, or the Keras objects of these names. Any other Keras loss is applied to the logits
            (before a final softmax) over the temperature. A list or dict holds one for each output.
        temperature, activation, from_logits, output, teacher, mask: See :class:`.LogitsLoss`. With ``"sigmoid"`` each
            label is a distribution of its own, and the mean over the labels counts.

    Example:
        >>> import numpy as np
        >>> loss = LogitsDistillation(temperature=2.0)
        >>> round(float(loss.values(np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]]))[0]), 4)
        0.4438
    """

    temperature: Schedule = 3.0
    loss: LossSetting = "kl_divergence"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "loss", checked_loss(self.loss, _DIVERGENCES, _KERAS_NAMES))

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        temperature = self.temperature_at(context)
        divergence = _DIVERGENCES.get(self.loss) if isinstance(self.loss, str) else None
        if divergence is None:
            return keras_values(self.loss, teacher / temperature, student / temperature)
        if context.get("activation") == SIGMOID:
            return divergences.of_each_label(divergence, teacher, student, temperature)
        return divergence(teacher, student, temperature)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class DecoupledDistillation(LogitsLoss):
    """Decoupled knowledge distillation (DKD): weighs the target class and the other classes separately.

    B. Zhao et al., "Decoupled Knowledge Distillation", 2022, arXiv:2203.08679. Needs the labels, softmax outputs and
    three classes or more to differ from :class:`LogitsDistillation`.

    Attributes:
        alpha: Weight of the divergence between the target and the rest, >= 0.
        beta: Weight of the divergence among the other classes, >= 0; the paper tunes it per teacher, from 1 to 10.
        temperature, activation, from_logits, output, teacher, mask: See :class:`.LogitsLoss`.

    Example:
        >>> import numpy as np
        >>> loss = DecoupledDistillation(temperature=1.0, beta=0.0)  # only whether it is the target
        >>> teacher, student, labels = np.array([[5.0, 1.0, 0.0]]), np.array([[5.0, 0.0, 1.0]]), np.array([0])
        >>> float(loss.values(teacher, student, labels=labels)[0])
        0.0
    """

    alpha: float = 1.0
    beta: float = 8.0

    softmax_only: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha, minimum=0)
        check_number("beta", self.beta, minimum=0)

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        temperature = self.temperature_at(context)
        return divergences.decoupled_kl(teacher, student, context["labels"], temperature, self.alpha, self.beta)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class RelationalDistillation(LogitsLoss):
    """DIST: keeps how classes relate within a sample, and samples within a class, instead of the exact probabilities.

    T. Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022, arXiv:2205.10536. The second relation is
    over the samples of one batch (of one replica), so small batches weaken it. The paper's temperature is 1.

    Attributes:
        beta: Weight of the relations within a sample, >= 0.
        gamma: Weight of the relations within a class, >= 0.
        temperature, activation, from_logits, output, teacher, mask: See :class:`.LogitsLoss`.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 5.0]])
        >>> RelationalDistillation().values(logits, logits + 3.0).numpy().round(6).tolist()
        [0.0, 0.0]
    """

    temperature: Schedule = 1.0
    beta: float = 1.0
    gamma: float = 1.0

    softmax_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta", self.beta, minimum=0)
        check_number("gamma", self.gamma, minimum=0)

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        temperature = self.temperature_at(context)
        return divergences.relational(teacher, student, temperature, self.beta, self.gamma, context.get("weights"))
