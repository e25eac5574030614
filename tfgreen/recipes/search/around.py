"""The space around a recipe whose settings are all decided: what else its settings could be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tfgreen.errors import invalid_state
from tfgreen.recipes.recipe.choices import Choice, Range
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.search.space import Space
from tfgreen.typing import PlainDict

# Verb -> setting -> what else it could be, from what it is.
_OTHERS: Mapping[str, Mapping[str, Callable[[Any], list[Any]]]] = {
    "prune_channels": {
        "target_macs": lambda macs: [0.3, 0.45, 0.6, 0.75, 0.9],
        "target_parameters": lambda parameters: [0.3, 0.45, 0.6, 0.75, 0.9],
        "ratio": lambda ratio: [0.2, 0.4, 0.6],
    },
    "mask_channels": {
        "target_macs": lambda macs: [0.3, 0.45, 0.6, 0.75, 0.9],
        "target_parameters": lambda parameters: [0.3, 0.45, 0.6, 0.75, 0.9],
    },
    "prune": {"sparsity": lambda sparsity: [0.3, 0.5, 0.65, 0.8, 0.9]},
    "quantize": {"weight_bits": lambda bits: [4, 5, 6, 8]},
    "cluster": {"number_of_clusters": lambda number: [8, 16, 32, 64]},
    "train": {"learning_rate": lambda rate: [rate / 3, rate * 3]},
    "distill": {"learning_rate": lambda rate: [rate / 3, rate * 3]},
}
_OPTIONAL = ("prune_channels", "prune", "cluster", "quantize")


def space_around(recipe: Recipe) -> Recipe:
    """The recipe with choices: other shares of channels and weights, learning rates, and steps left out.

    The first option of each choice is what the recipe says.

    Raises:
        ValueError: The recipe has no step with anything to choose.

    Example:
        >>> import tfgreen as tg
        >>> recipe = tg.Recipe([{"prune": {"sparsity": 0.5}}, {"train": {"epochs": 3}}, "convert"])
        >>> list(space_around(recipe).space)
        ['prune', 'train.learning_rate']
    """
    steps: list[PlainDict] = []
    for step in recipe.steps:
        settings = step.to_dict()[step.name]
        if step.settings is not None:
            config = step.config
            for name, others in _OTHERS.get(step.name, {}).items():
                value = getattr(config, name)
                if value is not None and (name in settings or name != "ratio"):
                    settings[name] = {"choice": [value, *(other for other in others(value) if other != value)]}
            if step.name in _OPTIONAL:
                settings = {"choice": [settings, None]}
        steps.append({step.name: settings})
    around = Recipe(steps, recipe.name, recipe.budget, recipe.description, recipe.loss)
    if not around.space:
        sentence = f"Recipe '{recipe.name}' has no setting to search for."
        raise invalid_state(sentence, "Write {choice: [...]} or {range: [low, high]} for a setting.")
    return around


def first_settings(space: Space) -> PlainDict:
    """The candidate of first options, and of the middle of each range."""
    draw: PlainDict = {}
    for name, place in space.places.items():
        if isinstance(place.open, Choice):
            draw[name] = next(n for n, option in enumerate(place.options) if option is place.open.options[0])
        else:
            draw[name] = _middle(place.open)
    return space.settings(draw)


def picked(recipe: Recipe, space: Space, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with the settings of a candidate."""
    for name, value in settings.items():
        recipe = recipe.pick({space.places[name].path: value})
    return recipe


def _middle(place: Range) -> float:
    if place.log:
        middle = math.sqrt(place.low * place.high)
        return round(middle) if place.whole else middle
    step = place.step or (1 if place.whole else 0)
    middle = (place.low + place.high) / 2
    return place.low + round((middle - place.low) / step) * step if step else middle
