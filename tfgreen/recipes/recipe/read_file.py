"""Read a recipe's file, YAML or JSON (which is YAML), and remember the line of each value for errors."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import yaml

from tfgreen.errors import FileError, TfgreenError
from tfgreen.files import reading
from tfgreen.typing import FilePath

# Where a value stands: keys and numbers of items, from the outside in.
Place: TypeAlias = "tuple[str | int, ...]"
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _Loader(yaml.SafeLoader):
    """SafeLoader that takes ``1e-3`` for a number, as JSON and YAML 1.2 do."""

    yaml_implicit_resolvers = {key: list(found) for key, found in yaml.SafeLoader.yaml_implicit_resolvers.items()}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)


class Lines:
    """The lines of a file, by place; without a file, places have none.

    Example:
        >>> Lines("mine.yaml", {("steps", 0): 4}).prefix(("steps", 0, "prune"))
        'mine.yaml, line 4: '
    """

    def __init__(self, source: str = "", lines: Mapping[Place, int] | None = None) -> None:
        self.source, self._lines = source, dict(lines or {})

    def prefix(self, place: Place) -> str:
        """The file and the line of a place, or of what it stands in."""
        while place and place not in self._lines:
            place = place[:-1]
        line = f", line {self._lines[place]}" if place in self._lines else ""
        return f"{self.source}{line}: " if self.source else ""

    @contextlib.contextmanager
    def naming(self, *place: str | int) -> Iterator[None]:
        """Name the line in what the block raises: that of the setting that the error is about, where it stands here."""
        try:
            yield
        except TfgreenError as error:
            if self.source and str(error).startswith(self.source):  # by a block within this one
                raise
            setting = re.split(r"[.,\[ ]+", error.subject)[-1] if error.subject else ""
            inner = (*place, setting)
            prefix = self.prefix(inner if inner in self._lines else place)
            raise type(error)(f"{prefix}{error}") from error


def read_file(path: FilePath) -> tuple[Any, Lines]:
    """The values of a YAML or JSON file, and their lines.

    Raises:
        FileError: It cannot be read, is neither, names a key twice, or uses anchors or tags.
    """
    with reading(path), open(path, "rb") as file:
        content = file.read()
    lines: dict[Place, int] = {}
    try:
        loader = _Loader(content)
        node = loader.get_single_node()
        values = _Values(str(path), loader, lines).read(node, ()) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or "it is no text"
        raise FileError(f"{path}{where}: expected YAML or JSON, received something else: {what}.") from error
    return values, Lines(str(path), lines)


class _Values:
    """The plain values of nodes."""

    def __init__(self, source: str, loader: _Loader, lines: dict[Place, int]) -> None:
        self._source, self._loader, self._lines = source, loader, lines
        self._seen: set[int] = set()

    def read(self, node: yaml.Node, place: Place) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(place, line)
        if isinstance(node, yaml.ScalarNode):
            return self._loader.construct_object(node)
        if id(node) in self._seen or node.tag not in _PLAIN_TAGS:
            raise FileError(f"{self._source}, line {line}: expected plain values, received an anchor or a tag.")
        self._seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*place, number)) for number, item in enumerate(node.value)]
        found: dict[str, Any] = {}
        for key_node, item in node.value:
            key, line = str(getattr(key_node, "value", "")), key_node.start_mark.line + 1
            if key in found:
                raise FileError(f"{self._source}, line {line}: expected each key once, received '{key}' again.")
            self._lines[(*place, key)] = line
            found[key] = self.read(item, (*place, key))
        return found
