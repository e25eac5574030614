"""suggest: which of the recipes that come with tfgreen suits a model, its data and a budget."""

from __future__ import annotations

import dataclasses
import re

import keras

from tfgreen.model.paths import walk
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.recipe.budget import Budget
from tfgreen.recipes.recipe.recipe import Recipe

_ATTENTION = re.compile("Attention|Transformer")
_MICROCONTROLLER_BYTES = 2**20  # of memory: more than those of today have
# A bound of the file -> the recipe that is for it, where it is the only one beside the drop.
_FOR = {"max_size": "size", "max_gzip": "size", "max_latency": "speed", "max_joules": "greenest"}


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """The name of a recipe, and why this one."""

    name: str
    reason: str


def suggest(model: keras.Model, data: Data, budget: Budget = Budget()) -> Suggestion:
    """The recipe for a model.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> suggest(model, tg.Data.from_arrays(np.zeros((20, 4)))).reason
        'the data has no targets, so that nothing can be trained'
    """
    given = budget.given
    bounds = [_FOR[name] for name in given if name in _FOR]
    classes = [type(layer).__name__ for _, layer in walk(model)]
    attention = next(filter(_ATTENTION.search, classes), None)
    suggestions = []
    if not data.train.has_targets:
        suggestions.append(Suggestion("posttraining", "the data has no targets, so that nothing can be trained"))
    if given.get("max_memory", _MICROCONTROLLER_BYTES) < _MICROCONTROLLER_BYTES:
        suggestions.append(Suggestion("microcontroller", "the memory is that of a microcontroller"))
    if attention:
        suggestions.append(Suggestion("transformer", f"the model has attention ({attention})"))
    if len(set(bounds)) == 1:
        bound = next(name for name in given if name in _FOR)
        suggestions.append(Suggestion(bounds[0], f"{bound} is the bound to keep"))
    suggestions.append(Suggestion("balanced", "the data has targets, and no single bound stands out"))
    return next(found for found in suggestions if found.name in Recipe.names())
