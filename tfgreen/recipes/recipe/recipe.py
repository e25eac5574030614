"""Recipe: what is done to a model, step by step, and what it may cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeAlias, Union

import yaml

from tfgreen.checks import check_instance
from tfgreen.config import check_options
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.recipes.recipe import built_in
from tfgreen.recipes.recipe.budget import OF_FILE, OF_RUN, Budget
from tfgreen.recipes.recipe.choices import Open, check_mapping, decided, open_places, written
from tfgreen.recipes.recipe.read_file import Lines, read_file
from tfgreen.recipes.recipe.step_table import kind_of
from tfgreen.recipes.recipe.steps import Step, check_order, read_step, step_names
from tfgreen.typing import FilePath, PlainDict
from tfgreen.version import __version__

VERSION = 1  # of the form; raised when a recipe of before would mean something else
_KEYS = ("version", "tfgreen", "name", "description", "loss", "optional", "steps", "budget")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is done to a model, in order, and the budget that the result is to keep.

    A step is a verb with the fields of its config: ``train``, ``distill``, ``prune_channels``, ``mask_channels``,
    ``remove_masked_channels``, ``factorize``, ``prune``, ``cluster``, ``quantize``, ``equalize``, ``correct_bias``,
    ``fold_batch_norm``, ``recalibrate_batch_norm``, ``strip``, ``convert``, ``check_target``, ``verify``,
    ``benchmark``, ``energy``. Data that a verb asks for (``calibration_data``) are training samples. ``train`` and
    ``distill`` take the fields of :class:`tg.TrainingConfig`, ``optimizer``, ``learning_rate`` and ``augment``, and
    teach with the original model; ``prune`` takes ``sparsity``, which is reached within the next step that trains,
    as the channels of ``mask_channels`` are gone.

    A setting, or all of a step, may be left to :func:`tg.search`: ``{choice: [a, b]}``, ``{range: [low, high]}``,
    with ``log: true`` or a ``step``. The choice ``null`` of a whole step leaves the step out.

    Args:
        steps: ``{"prune": {"sparsity": 0.5}}``, or ``"prune"`` for the defaults, of each step.
        name: Its name, for reports and files.
        budget: A :class:`tg.Budget`, or its fields as a dict.
        description: What it is for.
        loss: The name of a Keras loss to train with, or names by output; None for that with which the model was
            compiled.
        optional: Verbs whose steps are skipped, and told, where the model does not admit them.

    Raises:
        TypeError, ValueError: There is no such step or setting (the nearest is named), a value does not fit, or the
            order of steps cannot be carried out.

    Example:
        >>> import tfgreen as tg
        >>> recipe = tg.Recipe([{"prune": {"sparsity": 0.5}}, {"train": {"epochs": 2}}, "convert"], name="small")
        >>> [step.name for step in recipe.steps], tg.Recipe.from_dict(recipe.to_dict()) == recipe
        (['prune', 'train', 'convert'], True)
        >>> open_recipe = tg.Recipe([{"prune": {"sparsity": {"choice": [0.5, 0.7]}}}, "convert"])
        >>> list(open_recipe.space), open_recipe.pick({"prune.sparsity": 0.7}).steps[0].settings
        (['prune.sparsity'], {'sparsity': 0.7})
    """

    steps: Sequence[Step]
    name: str = "recipe"
    budget: Budget = Budget()
    description: str = ""
    loss: str | Mapping[str, str] | None = None
    optional: Sequence[str] = ()

    def __init__(
        self,
        steps: Sequence[Step | str | Mapping[str, Any]],
        name: str = "recipe",
        budget: Budget | Mapping[str, Any] = Budget(),
        description: str = "",
        loss: str | Mapping[str, str] | None = None,
        optional: Sequence[str] = (),
    ) -> None:
        self._set(Lines(), steps, name, budget, description, loss, optional)

    def _set(
        self, lines: Lines, steps: Any, name: Any, budget: Any, description: Any, loss: Any, optional: Any
    ) -> None:
        for field, value in {"name": name, "description": description}.items():
            with lines.naming(field):
                check_instance(field, value, str, "a text")
        with lines.naming("loss"):
            check_instance("loss", loss, (str, Mapping, type(None)), "the name of a Keras loss, or names by output")
        with lines.naming("optional"):
            check_instance("optional", optional, (list, tuple), "a list of verbs")
            for verb in optional:
                kind_of(verb, "optional")
        with lines.naming("budget"):
            if not isinstance(budget, Budget):
                check_mapping("budget", budget)
                for bound in budget:
                    with lines.naming("budget", bound):
                        check_options([bound], [*OF_FILE, *OF_RUN], "bound of a budget")
                budget = Budget(**budget)
        with lines.naming("steps"):
            if not isinstance(steps, (list, tuple)) or not steps:
                raise invalid_type("steps", expected="a list with one step or more", received=steps)
        read = []
        for number, step in enumerate(steps):
            with lines.naming("steps", number, *(step if isinstance(step, Mapping) and len(step) == 1 else ())):
                read.append(step if isinstance(step, Step) else read_step(step, number + 1))
        with lines.naming("steps"):
            check_order(read)
        fixed = {"steps": tuple(read), "name": name, "budget": budget, "description": description, "loss": loss}
        fixed["optional"] = tuple(optional)
        for field, value in fixed.items():
            object.__setattr__(self, field, value)

    @property
    def space(self) -> dict[str, Open]:
        """What is left to a search: choices and ranges by place, ``"prune.sparsity"``, or ``"prune"`` for a whole step;
        ``"train-2.epochs"`` for the second ``train``. Those within a choice come once it is picked."""
        named = zip(step_names(self.steps), self.steps)
        return dict(found for name, step in named for found in open_places(step.settings, name))

    def pick(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe with values for places of its :attr:`space`.

        Raises:
            ValueError: There is no such place, or the value is none of its options.
        """
        space = self.space
        for place, value in values.items():
            check_options([place], list(space), f"open setting of recipe '{self.name}'")
            space[place].check(place, value)
        steps = [
            dataclasses.replace(step, settings=decided(step.settings, name, values))
            for name, step in zip(step_names(self.steps), self.steps)
        ]
        return self.replace(steps=steps)

    def replace(self, **fields: Any) -> Recipe:
        """The recipe with other values for some of its fields."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Recipe(**{**own, **fields})

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.to_yaml())}</pre>"

    def to_dict(self) -> PlainDict:
        """Plain values, as a file holds them; ``Recipe.from_dict(recipe.to_dict()) == recipe``."""
        told = {"name": self.name, "description": self.description, "loss": written(self.loss)}
        told["optional"] = list(self.optional)
        return {
            "version": VERSION,
            "tfgreen": __version__,
            **{key: value for key, value in told.items() if value},
            "steps": [step.to_dict() for step in self.steps],
            **({"budget": self.budget.given} if self.budget.given else {}),
        }

    def to_yaml(self) -> str:
        """The recipe as a file holds it."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    @classmethod
    def from_dict(cls, data: PlainDict) -> Recipe:
        """The recipe of plain values: ``version``, ``name``, ``description``, ``loss``, ``optional``, ``steps``
        and ``budget``.

        Raises:
            TypeError, ValueError: See :class:`tg.Recipe`; or the version is a newer one.
        """
        return cls._read(data, Lines())

    @classmethod
    def from_file(cls, path: FilePath) -> Recipe:
        """The recipe of a YAML or JSON file.

        Raises:
            FileError: The file cannot be read.
            TypeError, ValueError: See :meth:`from_dict`; the text names file and line.

        Example:
            >>> import tfgreen as tg
            >>> _ = Path("mine.yaml").write_text("steps:\\n  - train: {epochs: 0}\\n  - convert\\n")
            >>> tg.Recipe.from_file("mine.yaml")
            Traceback (most recent call last):
            ...
            tfgreen.errors.InvalidValueError: mine.yaml, line 2: epochs: expected an integer >= 1, received 0.
        """
        return cls._read(*read_file(path))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the recipes that come with tfgreen."""
        return built_in.names()

    @classmethod
    def named(cls, name: str) -> Recipe:
        """A recipe that comes with tfgreen.

        Raises:
            ValueError: There is none of this name.
        """
        with built_in.file_of(name) as path:
            return cls.from_file(path)

    @classmethod
    def of(cls, recipe: AnyRecipe) -> Recipe:
        """A recipe as it is, by its name, of a file, or of plain values."""
        if isinstance(recipe, Recipe):
            return recipe
        if isinstance(recipe, Mapping):
            return cls.from_dict(dict(recipe))
        if isinstance(recipe, (list, tuple)):
            return cls(recipe)
        if not isinstance(recipe, (str, Path)):
            expected = "a tg.Recipe, its name, the path of a file, a dict, or a list of steps"
            raise invalid_type("recipe", expected=expected, received=recipe)
        is_file = Path(recipe).suffix.lower() in (".yaml", ".yml", ".json") or Path(recipe).is_file()
        return cls.from_file(recipe) if is_file else cls.named(str(recipe))

    @classmethod
    def _read(cls, data: Any, lines: Lines) -> Recipe:
        with lines.naming():
            check_mapping("recipe", data)
        with lines.naming("version"):
            _check_version(data)
        for key in data:
            with lines.naming(key):
                check_options([key], _KEYS, "key of a recipe")
        values: PlainDict = {"steps": None, "name": "recipe", "budget": {}, "description": "", "loss": None}
        values["optional"] = ()
        values |= {key: value for key, value in data.items() if key in values}
        recipe = cls.__new__(cls)
        recipe._set(lines=lines, **values)
        return recipe


# What is taken for a recipe: itself, the name of one, the path of a file, plain values, or the steps alone.
AnyRecipe: TypeAlias = Union[Recipe, FilePath, Mapping[str, Any], Sequence[Any]]


def _check_version(data: Mapping[str, Any]) -> None:
    version = data.get("version", VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise invalid_value("version", expected=f"an integer from 1 to {VERSION}", received=repr(version))
    if version > VERSION:
        by = f"tfgreen {data['tfgreen']}" if data.get("tfgreen") else "a newer tfgreen"
        sentence = f"The recipe is of version {version}, and tfgreen {__version__} reads up to {VERSION}."
        raise invalid_state(sentence, f"It was written by {by}: install that, pip install -U tfgreen.")
