"""Step: one verb of a recipe with its settings, read and checked."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfgreen.config import Config
from tfgreen.errors import invalid_state, invalid_type
from tfgreen.recipes.recipe.choices import Choice, check_mapping, open_places, read_choices, samples_of, written
from tfgreen.recipes.recipe.step_settings import TrainStep
from tfgreen.recipes.recipe.step_table import KINDS, StepKind, config_of, kind_of
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True)
class Step:
    """A verb and its settings as a recipe writes them.

    Attributes:
        name: The verb.
        settings: Its settings by name, a :class:`Choice` of several such dicts, or None where the step is left out.
    """

    name: str
    settings: Mapping[str, Any] | Choice | None

    @property
    def kind(self) -> StepKind:
        """What the verb needs."""
        return KINDS[self.name]

    @property
    def is_open(self) -> bool:
        """Whether a search is to decide something of it."""
        return any(True for _ in open_places(self.settings, ""))

    @property
    def config(self) -> Config:
        """The settings as the config of the verb; all of them are decided."""
        return config_of(self.name, self.settings or {}, self.name)  # type: ignore[arg-type]

    def to_dict(self) -> PlainDict:
        """As a recipe writes it."""
        return {self.name: {"choice": [None]} if self.settings is None else written(self.settings)}


def read_step(value: Any, number: int) -> Step:
    """A step as a recipe writes it: ``"convert"``, ``{"convert": None}`` or ``{"convert": {...}}``."""
    if isinstance(value, str):
        value = {value: None}
    if not isinstance(value, Mapping) or len(value) != 1:
        fix = "Begin each step with a dash: '- prune: {sparsity: 0.5}'." if isinstance(value, Mapping) else ""
        raise invalid_type(f"step {number}", expected="one verb with its settings", received=value, fix=fix)
    [(name, settings)] = value.items()
    kind_of(name, f"step {number}")
    subject = f"step {number}, {name}"
    settings = {} if settings is None else settings
    check_mapping(subject, settings)
    settings = read_choices(settings, subject)
    if isinstance(settings, Choice) and settings.options == (None,):
        return Step(name, None)
    for sample in samples_of(settings):
        if sample is not None:
            config_of(name, sample, subject)
    return Step(name, settings)


def step_names(steps: Sequence[Step]) -> list[str]:
    """The names of steps, from the second of a verb on with a number.

    Example:
        >>> step_names([Step("train", {}), Step("prune", {}), Step("train", {})])
        ['train', 'prune', 'train-2']
    """
    counts = collections.Counter[str]()
    names = []
    for step in steps:
        counts[step.name] += 1
        names.append(step.name if counts[step.name] == 1 else f"{step.name}-{counts[step.name]}")
    return names


def next_training(steps: Sequence[Step]) -> TrainStep | None:
    """The settings of the first step that trains, None where none does."""
    configs = (step.config for step in steps if step.settings is not None)
    return next((config for config in configs if isinstance(config, TrainStep)), None)


def check_order(steps: Sequence[Step]) -> None:
    """Raise where a step cannot be carried out after those before it, as far as all of them are decided."""
    if not any(step.name == "convert" and step.settings is not None for step in steps):
        raise invalid_state("No step of the recipe makes a file.", "Add one: convert: {quantization: int8}.")
    compressed: list[str] = []
    converted, masked, behind = False, False, ""
    for step in steps:
        if step.name == "convert":
            behind = ""
        if step.settings is None or (isinstance(step.settings, Choice) and None in step.settings.options):
            masked = masked or step.name == "mask_channels"
            continue
        if step.kind.plain and compressed:
            sentence = f"{step.name} stands after {compressed[-1]}, whose layers are compressed."
            raise invalid_state(sentence, f"Move it before {compressed[0]}, or put the step strip before it.")
        if step.name in compressed:
            raise invalid_state(f"{step.name} stands twice.", "Leave one out, or put the step strip between them.")
        if step.kind.reads_file and not converted:
            raise invalid_state(f"{step.name} stands before there is a file.", "Move it behind convert.")
        if step.name == "prune" and "cluster" in compressed and not _keeps_zeros(steps):
            sentence = "prune stands after cluster, whose codebooks hold no zero."
            raise invalid_state(sentence, "Move it before cluster, or write cluster: {preserve_sparsity: true}.")
        if step.name == "remove_masked_channels" and not masked:
            raise invalid_state(f"{step.name} stands where no channel is masked.", "Put mask_channels before it.")
        masked = masked or step.name == "mask_channels"
        if converted and not step.kind.reads_file and step.name != "convert":
            behind = behind or step.name
        converted = converted or step.name == "convert"
        compressed = [] if step.kind.strips else compressed + [step.name] * step.kind.compresses
    if behind:
        sentence = f"{behind} stands behind the last convert, so that no file holds what comes of it."
        raise invalid_state(sentence, f"Move it before convert, or put another convert behind {behind}.")


def _keeps_zeros(steps: Sequence[Step]) -> bool:
    """Whether the codebooks of a recipe hold zeros, as far as that is decided."""
    settings = next((step.settings for step in steps if step.name == "cluster"), None)
    return not isinstance(settings, Mapping) or settings.get("preserve_sparsity") not in (None, False)
