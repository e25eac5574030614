"""Losses between layers: what they return, and where it is large."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import keras

from tfgreen.checks import check_number
from tfgreen.distillation import divergences
from tfgreen.distillation.keras_losses import LossSetting, checked_loss, keras_values
from tfgreen.distillation.losses import LayerLoss, LossContext
from tfgreen.typing import Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

_DISTANCES = {"mse": divergences.mean_squared_error, "cosine": divergences.cosine_distance}


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class FeatureDistillation(LayerLoss):
    """Makes a layer of the student return what a layer of the teacher does.

    A. Romero et al., "FitNets", 2015, arXiv:1412.6550. Where the channels differ, a trained linear projection of them
    (``keras.layers.Dense``) first maps the student's features; it belongs to the distiller. Where height and width
    differ by a whole factor, the larger map is averaged down. For transformers: the hidden states of layers, with
    padding left out.

    Attributes:
        loss: ``"mse"``, ``"cosine"`` (one minus the cosine, exact also where that is near 0), or any other Keras loss
            by name or as an object. A list or dict holds one for each output.
        teacher_layer_name, student_layer_name, layer_map: See :class:`.LayerLoss`. Without all, the models' outputs are
            compared as they are: for regression.
        output, teacher, mask: See :class:`DistillationLoss`.

    Example:
        >>> import numpy as np
        >>> FeatureDistillation().values(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]])).numpy().tolist()
        [2.0]
    """

    loss: LossSetting = "mse"
    teacher_layer_name: str | None = None
    student_layer_name: str | None = None

    projects: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "loss", checked_loss(self.loss, _DISTANCES))

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        distance = _DISTANCES.get(self.loss) if isinstance(self.loss, str) else None
        return distance(teacher, student) if distance else keras_values(self.loss, teacher, student)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class AttentionTransfer(LayerLoss):
    """Makes a layer of the student attend to the places that a layer of the teacher attends to.

    S. Zagoruyko and N. Komodakis, "Paying More Attention to Attention", 2017, arXiv:1612.03928. Channels may differ.
    The squared distance of the maps is summed over the places; the paper's factor of about 1000 is for its mean.

    Attributes:
        teacher_layer_name, student_layer_name, layer_map: See :class:`.LayerLoss`; features of shape ``(batch, ...,
            channels)``.
        power: Exponent of the activations in an attention map, > 0.
        output, teacher, mask: See :class:`DistillationLoss`.

    Example:
        >>> import numpy as np
        >>> loss = AttentionTransfer("conv5", "conv2")
        >>> float(loss.values(np.ones((1, 4, 8)), 2 * np.ones((1, 4, 3)))[0])
        0.0
    """

    teacher_layer_name: str | None = None
    student_layer_name: str | None = None
    power: float = 2.0

    needs_layers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("power", self.power, above=0)

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        return divergences.attention_transfer(teacher, student, self.power, context.get("weights"))
