"""The setting ``loss`` of a distillation loss: a Keras loss by name or as an object, one or one for each output."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias, Union

import keras
from keras import ops

from tfgreen.errors import invalid_type, invalid_value
from tfgreen.typing import Tensor

# A name or an object of a Keras loss, or a list or dict of them over the outputs, in which None leaves an output out.
KerasLoss: TypeAlias = Union[str, keras.losses.Loss, Callable[[Tensor, Tensor], Tensor]]
LossSetting: TypeAlias = Union[KerasLoss, Sequence[Union[KerasLoss, None]], Mapping[str, Union[KerasLoss, None]]]


def checked_loss(loss: LossSetting, own: Collection[str], names: Mapping[type, str] | None = None) -> LossSetting:
    """The setting ``loss``, with tuples for lists, and the name for an object of a loss that has one in ``names``."""
    if isinstance(loss, Mapping):
        return {key: part and checked_loss(part, own, names) for key, part in loss.items()}
    if isinstance(loss, (list, tuple)) and any(part is not None for part in loss):
        return tuple(part and checked_loss(part, own, names) for part in loss)
    if names and type(loss) in names and not getattr(loss, "label_smoothing", 0):
        return names[type(loss)]
    if not isinstance(loss, str) and not callable(loss):
        raise invalid_type("loss", expected="the name of a loss or a Keras loss, at least one", received=loss)
    if isinstance(loss, keras.losses.Loss) and loss.reduction == "sum":
        raise invalid_value("loss", expected="one that is averaged, as the distiller does", received="reduction='sum'")
    if isinstance(loss, str) and loss not in own:
        try:
            keras.losses.get(loss)
        except ValueError:
            expected = f"{', '.join(map(repr, own))} or the name of another Keras loss"
            raise invalid_value("loss", expected=expected, received=repr(loss)) from None
    return loss


def keras_values(loss: LossSetting, teacher: Tensor, student: Tensor) -> Tensor:
    """The values of a Keras loss before it averages them, in float32."""
    function = keras.losses.get(loss)
    function = function.call if isinstance(function, keras.losses.Loss) else function
    return function(ops.cast(teacher, "float32"), ops.cast(student, "float32"))
