"""Losses between attention layers: what queries attend to, and how queries, keys and values relate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import keras
from keras import ops

from tfgreen.checks import check_integer, check_option
from tfgreen.distillation import divergences
from tfgreen.distillation.losses import LayerLoss, LossContext
from tfgreen.errors import invalid_value
from tfgreen.typing import Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

Part = Literal["query", "key", "value"]


class AttentionLoss(LayerLoss):
    """Base of the losses between attention layers: a layer that is named is one, or holds one.

    Values are of shape ``(batch, queries)``; padding is left out, of the queries and of the keys.
    """

    needs_layers: ClassVar[bool] = True

    def positions(self, student: Tensor) -> Tensor:
        return ops.ones_like(ops.reshape(student, (*ops.shape(student)[:2], -1))[:, :, 0], dtype="float32")


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class AttentionMapDistillation(AttentionLoss):
    """Makes an attention layer of the student attend to the positions that one of the teacher attends to.

    The divergence of the probabilities after the softmax, which hold what masks, position biases and rotations make of
    the scores. Z. Sun et al., "MobileBERT", 2020, arXiv:2004.02984; X. Jiao et al., "TinyBERT", 2020, arXiv:1909.10351,
    compares the scores. Widths may differ; where the heads are not as many, their mean is compared. For Keras's
    attention layers and those derived from them, as KerasHub's mostly are.

    Attributes:
        teacher_layer_name, student_layer_name, layer_map: See :class:`.LayerLoss`; an attention layer, or a layer that
            holds one.
        output, teacher, mask: See :class:`DistillationLoss`.

    Example:
        >>> import numpy as np
        >>> maps = np.full((1, 2, 4, 4), 0.25)
        >>> AttentionMapDistillation(layer_map={0: 0, 3: 1}).values(maps, maps).numpy().tolist()
        [[0.0, 0.0, 0.0, 0.0]]
    """

    teacher_layer_name: str | None = None
    student_layer_name: str | None = None

    def positions(self, student: Tensor) -> Tensor:
        return ops.ones_like(student[:, 0, :, 0], dtype="float32")

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        return divergences.attention_maps(teacher, student)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class AttentionRelationDistillation(AttentionLoss):
    """MiniLM: keeps how the queries, keys and values of an attention layer relate from position to position.

    W. Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation", 2021, arXiv:2012.15828. Widths and
    heads may differ, and no projection is trained. One pair of layers does: the student's last, and of the teacher the
    last or, of a deep one, an upper layer in between.

    Attributes:
        teacher_layer_name, student_layer_name, layer_map: See :class:`.LayerLoss`; an attention layer, or a layer that
            holds one.
        relations: Of ``"query"``, ``"key"`` and ``"value"`` those that are compared; their mean counts.
        relation_heads: In how many parts the features are related; it divides both widths. More parts than the models
            have heads tell more. None: the most that divide the teacher's heads and the student's width.
        output, teacher, mask: See :class:`DistillationLoss`.

    Example:
        >>> import numpy as np
        >>> queries = np.random.default_rng(0).normal(size=(1, 5, 8))
        >>> AttentionRelationDistillation("att", "att", relation_heads=2).values(queries, -queries).numpy().tolist()
        [[0.0, 0.0, 0.0, 0.0, 0.0]]
    """

    teacher_layer_name: str | None = None
    student_layer_name: str | None = None
    relations: Sequence[Part] = ("query", "key", "value")
    relation_heads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        relations = (self.relations,) if isinstance(self.relations, str) else tuple(self.relations)
        for relation in relations:
            check_option("relations", relation, ("query", "key", "value"))
        if not relations or len(set(relations)) < len(relations):
            raise invalid_value("relations", expected="each at most once, at least one", received=list(relations))
        object.__setattr__(self, "relations", relations)
        check_integer("relation_heads", self.relation_heads, minimum=1, optional=True)

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        return divergences.self_relations(teacher, student, self.relation_heads or 1, context.get("weights"))
