"""The settings of steps whose verb has no config, or one that a recipe writes differently."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import keras

from tfgreen.checks import check_number, check_option
from tfgreen.config import Config
from tfgreen.deploy.inspection.target_tables import TARGETS, TargetName
from tfgreen.recipes.economy.training_config import TrainingConfig
from tfgreen.techniques.prune import PruneConfig
from tfgreen.training.schedules import ConstantSparsity, ScheduleLike

Optimizer = Literal["adam", "adamw", "sgd", "rmsprop", "nadam", "lion", "adafactor"]
Augment = Literal["flip", "shift"]
AUGMENTS: tuple[Augment, ...] = get_args(Augment)


@dataclasses.dataclass(frozen=True)
class TrainStep(TrainingConfig):
    """How a step trains: as ``tg.fit``, and with which optimizer.

    Attributes:
        optimizer: The name of one of Keras's; ``"sgd"`` has a momentum of 0.9.
        learning_rate: What its rate begins with; by default it falls along half a cosine.
        final_share: The share of ``learning_rate`` that it ends with, in [0, 1].
        warm_up: The share of the steps, in [0, 1), in which it rises from 0 first.
        augment: What is done to images at random: ``"flip"`` left and right, ``"shift"`` by up to an eighth of the
            sides. For images of shape (height, width, channels) whose targets do not move with them. Or ``"auto"``:
            those of them after which the original model sees the same class in at least four of five training samples.
    """

    epochs: int = 4
    schedule: keras.optimizers.schedules.LearningRateSchedule | Literal["cosine"] | None = "cosine"
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-3
    final_share: float = 0.0
    warm_up: float = 0.0
    augment: tuple[Augment, ...] | Literal["auto"] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option("optimizer", self.optimizer, ("adam", "adamw", "sgd", "rmsprop", "nadam", "lion", "adafactor"))
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("final_share", self.final_share, minimum=0, maximum=1)
        check_number("warm_up", self.warm_up, minimum=0, below=1)
        if self.augment == "auto":
            return
        augment = (self.augment,) if isinstance(self.augment, str) else tuple(self.augment)
        for name in augment:
            check_option("augment", name, AUGMENTS)
        object.__setattr__(self, "augment", augment)


@dataclasses.dataclass(frozen=True)
class DistillStep(TrainStep):
    """The same with the original model as the teacher.

    Attributes:
        temperature: What the logits of classes are divided by, > 0. Outputs that are no classes are compared as they
            are.
        student_loss_weight: What the targets count beside the teacher, in [0, 1].
        feature_weight: What the sums of a residual network's branches count, beside its outputs; 0 for nothing.
    """

    temperature: float = 3.0
    student_loss_weight: float = 0.3
    feature_weight: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("temperature", self.temperature, above=0)
        check_number("student_loss_weight", self.student_loss_weight, minimum=0, maximum=1)
        check_number("feature_weight", self.feature_weight, minimum=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneStep(PruneConfig):
    """How to prune: as ``tg.prune``, up to a sparsity.

    Attributes:
        sparsity: The share of zeros, in (0, 1). It is reached after 5/8 of the next step that trains, or at once where
            none follows.
    """

    sparsity: float = 0.5
    schedule: ScheduleLike | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        check_number("sparsity", self.sparsity, above=0, below=1)
        if self.schedule is None:
            object.__setattr__(self, "schedule", ConstantSparsity(self.sparsity, begin_step=0))
        super().__post_init__()


@dataclasses.dataclass(frozen=True)
class NoSettings(Config):
    """A verb without settings."""


@dataclasses.dataclass(frozen=True)
class TargetStep(Config):
    """Where the file is to run: ``"tflm"``, ``"xnnpack"`` or ``"edgetpu"``; see :func:`tfgreen.check_target`."""

    target: TargetName = "tflm"

    def __post_init__(self) -> None:
        check_option("target", self.target, tuple(TARGETS))
