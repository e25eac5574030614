"""Padding: the input of a student that says which positions of its sequences count."""

from __future__ import annotations

from collections.abc import Mapping

import keras
from keras import ops

from tfgreen.distillation.losses import DistillationLoss
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.model.call_spec import of_same_part, padding_inputs
from tfgreen.model.internals import keras_mask, with_keras_mask
from tfgreen.structure import CallSpec
from tfgreen.typing import Tensor, Tensors


def padding_input(loss: DistillationLoss, spec: CallSpec, compared: str) -> str:
    """The name of the input that is 0 where a position does not count, ``""`` if there is none.

    ``compared`` is the name of the student's layer or output: one of an encoder or of a decoder goes by the mask that
    bears this name too.
    """
    names = [item.name for item in spec.inputs if len(item.shape) == 1]
    if loss.mask is not None:
        if loss.mask not in names:
            subject = f"{type(loss).__name__}, mask"
            raise invalid_value(subject, expected=f"an input (batch, length), of {names}", received=f"'{loss.mask}'")
        return loss.mask
    found = padding_inputs(spec)
    if len(found) > 1:
        fitting = of_same_part(found, compared)
        if len(fitting) != 1:
            raise invalid_state(
                f"{type(loss).__name__} on '{compared}': which of the inputs {found} says what is padding?",
                f"State it: mask='{found[0]}'.",
            )
        found = fitting
    return found[0] if found else ""


def masked_positions(positions: Tensor, bearer: Tensor, padding: Tensor | None) -> Tensor:
    """Positions that bear a mask of Keras's: of ``bearer``, and 0 where ``padding`` is, if they are of its shape."""
    masks = [keras_mask(bearer)]
    if padding is not None and len(padding.shape) == len(positions.shape) and _fits(padding, positions):
        masks.append(padding)
    masks = [ops.cast(mask, "bool") for mask in masks if mask is not None]
    if not masks:
        return positions
    mask = masks[0] if len(masks) == 1 else ops.logical_and(masks[0], masks[1])
    return with_keras_mask(positions, mask)


def input_named(x: Tensors, name: str, spec: CallSpec) -> Tensor:
    """The input of this name of a batch."""
    if isinstance(x, Mapping):
        return x[name]
    return keras.tree.flatten(x)[[item.name for item in spec.inputs].index(name)]


def _fits(a: Tensor, b: Tensor) -> bool:
    return all(m is None or n is None or m == n for m, n in zip(a.shape[1:], b.shape[1:]))
