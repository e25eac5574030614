"""Input and output structures: which named tensor stands where in a list, a dict, or alone.

A structure is a name, or a list or dict of structures: ``"image"``, ``["left", "right"]``, ``{"a": "image"}``. It is
plain JSON, so that it can travel inside the .tflite file.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.typing import Shape

Structure = Any  # str | list[Structure] | dict[str, Structure]; mypy has no good way to say so for JSON


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input: its Keras name, its shape without the batch (``None`` for a dynamic dimension) and its dtype."""

    name: str
    shape: Shape
    dtype: str


@dataclasses.dataclass(frozen=True)
class CallSpec:
    """How a model is called: the structure of its inputs by name, and each input in reading order.

    ``by_keyword`` says that it is a subclassed model whose ``call()`` takes several arguments; ``batch`` is the number
    of samples that an input fixes (``keras.Input(batch_size=4)``), None where all leave it open.
    """

    structure: Structure
    inputs: tuple[InputSpec, ...]
    by_keyword: bool = False
    batch: int | None = None

    def slices(self, count: int, size: int) -> list[slice]:
        """Where the batches of ``count`` samples lie: of ``size``, or as large as the model fixes them.

        Of the latter the last is whole too: it goes back to samples of the one before.

        Example:
            >>> CallSpec("x", (InputSpec("x", (2,), "float32"),), batch=4).slices(6, 32)
            [slice(0, 4, None), slice(2, 6, None)]
        """
        size = self.batch or size
        last = max(0, count - size) if self.batch else count
        return [slice(min(start, last), min(start, last) + size) for start in range(0, count, size)]


def leaf_names(structure: Structure) -> list[str]:
    """The names in a structure, in reading order.

    Example:
        >>> leaf_names({"a": "image", "b": ["left", "right"]})
        ['image', 'left', 'right']
    """
    if isinstance(structure, str):
        return [structure]
    parts = structure.values() if isinstance(structure, dict) else structure
    return [name for part in parts for name in leaf_names(part)]


def name_leaves(tree: object, default: Callable[[Any, int], str]) -> tuple[Structure, list[Any]]:
    """The structure of names of nested dicts, lists and tuples, and their leaves in reading order.

    ``default`` names a leaf that no dict key leads to, from the leaf and its position in reading order.

    Example:
        >>> name_leaves({"label": 0.5, "boxes": [1.5, 2.5]}, lambda leaf, index: f"output_{index}")
        ({'label': 'label', 'boxes': ['boxes_0', 'boxes_1']}, [0.5, 1.5, 2.5])
    """
    names: list[str] = []
    leaves: list[Any] = []

    def visit(part: object, path: tuple[str, ...]) -> Structure:
        if isinstance(part, Mapping):
            return {str(key): visit(item, (*path, str(key))) for key, item in part.items()}
        if isinstance(part, (list, tuple)):
            return [visit(item, (*path, str(i)) if path else ()) for i, item in enumerate(part)]
        name = unique_name("_".join(path) if path else default(part, len(leaves)), names)
        names.append(name)
        leaves.append(part)
        return name

    return visit(tree, ()), leaves


def unique_name(name: str, taken: Collection[str]) -> str:
    """``name``, or where it is taken the first of ``name_1``, ``name_2``, ... that is not."""
    if name not in taken:
        return name
    return next(numbered for i in itertools.count(1) if (numbered := f"{name}_{i}") not in taken)


def pack(structure: Structure, values: Mapping[str, Any]) -> Any:
    """Put named values into the places their names hold.

    Example:
        >>> pack(["left", "right"], {"left": 1, "right": 2})
        [1, 2]
    """
    if isinstance(structure, str):
        return values[structure]
    if isinstance(structure, dict):
        return {key: pack(part, values) for key, part in structure.items()}
    return [pack(part, values) for part in structure]


def match(structure: Structure, value: Any, subject: str) -> dict[str, Any]:
    """The parts of a user's value by name.

    The value has data in place of the structure's names. A flat dict by name is always accepted, and so is a bare array
    for a structure of one tensor. Other keys, or more or fewer parts, raise a ValueError about ``subject``.

    Example:
        >>> match(["left", "right"], {"right": 2, "left": 1}, "x")
        {'left': 1, 'right': 2}
    """
    names = leaf_names(structure)
    if isinstance(value, Mapping):
        if set(value) == set(names):
            return {name: value[name] for name in names}
        if not isinstance(structure, dict) or set(value) != set(structure):
            raise _mismatch(structure, sorted(map(str, value)), subject)
        return {k: v for key, part in structure.items() for k, v in match(part, value[key], subject).items()}
    several = isinstance(value, (list, tuple))
    if isinstance(structure, str) or (len(names) == 1 and not several):
        return {names[0]: value}
    if isinstance(structure, dict) or not several or len(value) != len(structure):
        listed = several and not isinstance(structure, dict)
        raise _mismatch(structure, f"{len(value)} values" if listed else type(value).__name__, subject)
    return {k: v for part, item in zip(structure, value) for k, v in match(part, item, subject).items()}


def rename(values: Mapping[str, Any], structure: Structure, target: Structure, subject: str) -> dict[str, Any]:
    """The values of one structure by the names of another: those that are the same, or else those in the same places.

    Example:
        >>> rename({"left": 1, "right": 2}, ["left", "right"], ["input_0", "input_1"], "x")
        {'input_0': 1, 'input_1': 2}
    """
    same = set(values) == set(leaf_names(target))
    return match(target, values if same else pack(structure, values), subject)


def _mismatch(structure: Structure, received: object, subject: str) -> InvalidValueError:
    if isinstance(structure, str):
        expected = f"one array ('{structure}')"
    elif isinstance(structure, dict):
        expected = f"a dict with keys {sorted(structure)}"
    else:
        expected = f"a list of {len(structure)} arrays, or a dict by name, of {leaf_names(structure)}"
    return invalid_value(subject, expected=expected, received=received)
