"""One loss as several: for each output of the models, or for each pair of their layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from tfgreen.distillation.attention_layers import projections
from tfgreen.distillation.attention_losses import AttentionLoss, AttentionRelationDistillation
from tfgreen.distillation.losses import AnyLoss, DistillationLoss, LayerLoss
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.model.capture import find_layer
from tfgreen.model.paths import walk
from tfgreen.surgery.depth.find_stacks import find_stacks


def by_output(loss: Any, names: Sequence[str]) -> Sequence[AnyLoss]:
    """A loss for each output, from one whose setting ``loss`` is a list or dict over the outputs."""
    if not isinstance(loss, DistillationLoss) or not isinstance(getattr(loss, "loss", None), (tuple, dict)):
        return [loss]
    if isinstance(loss.loss, tuple) and len(loss.loss) != len(names):
        expected = f"one for each of {len(names)} outputs of the student"
        raise invalid_value(f"{type(loss).__name__}, loss", expected=expected, received=f"{len(loss.loss)}")
    whole: Any = loss
    parts = whole.loss if isinstance(whole.loss, dict) else dict(zip(names, whole.loss))
    return [dataclasses.replace(whole, loss=part, output=name) for name, part in parts.items() if part is not None]


def by_layer(loss: AnyLoss, teacher: object, student: keras.Model) -> Sequence[AnyLoss]:
    """A loss for each pair of layers of one with a ``layer_map``, and for each of its relations."""
    if not isinstance(loss, LayerLoss):
        return [loss]
    whole: Any = loss
    losses: list[Any] = [loss]
    if whole.layer_map is not None:
        holds_attention, losses = isinstance(loss, AttentionLoss), []
        for theirs, ours in whole.layer_map:
            names = {
                "teacher_layer_name": _named(theirs, teacher, "teacher", holds_attention),
                "student_layer_name": _named(ours, student, "student", holds_attention),
            }
            losses.append(dataclasses.replace(whole, layer_map=None, **names))
    if isinstance(loss, AttentionRelationDistillation):
        losses = [dataclasses.replace(one, relations=(part,)) for one in losses for part in loss.relations]
    return losses


def _named(layer: int | str, model: object, role: str, holds_attention: bool) -> str:
    """The name of a layer that a ``layer_map`` names or numbers."""
    if isinstance(layer, str) or not isinstance(model, keras.Model):  # of which no layer can be read: said later
        return str(layer)
    stacks, subject = find_stacks(model), f"layer_map, {role} '{model.name}'"
    if len(stacks) > 1:
        first = [stack.blocks[0].output for stack in stacks]
        expected = f"names of layers, as several of its parts repeat layers, from {first} on"
        raise invalid_value(subject, expected=expected, received=layer)
    blocks = stacks[0].blocks
    if not 0 <= layer < len(blocks):
        expected = f"numbers from 0 to {len(blocks) - 1}, as it repeats {len(blocks)} layers"
        raise invalid_value(subject, expected=expected, received=layer)
    block = blocks[layer]
    if len(block.operations) > 1 and holds_attention:
        listed = [(path, call) for path, call in block.layers if _has_attention(find_layer(model, path, role))]
        if len(listed) == 1:
            return "@".join(str(part) for part in listed[0] if part)
    if not block.output:
        raise invalid_state(
            f"{subject}: its layer {layer} ends in a raw operation, which has no name.",
            f"Name the layers that are compared, of {[path for path, _ in block.layers]}.",
        )
    return block.output


def _has_attention(layer: keras.Layer) -> bool:
    return any(projections(sub) for sub in [layer, *(sub for _, sub in walk(layer))])
