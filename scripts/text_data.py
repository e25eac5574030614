"""Text that needs no download: the docstrings of Python's standard library, as characters to learn a language from.

    python scripts/text_data.py

Which docstrings there are depends on the version of Python; of one version the text is always the same.
"""

from __future__ import annotations

import ast
import dataclasses
import sysconfig
import warnings
from pathlib import Path

import numpy as np

_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "__pycache__", "ensurepip"}
_TEST_EVERY = 10  # of ten modules one is kept to be tested on


@dataclasses.dataclass(frozen=True)
class Text:
    """Windows of characters, as int32 of shape (windows, length + 1): all but the last are inputs, all but the first
    targets. ``characters`` are what the numbers stand for; 0 is any other."""

    train: np.ndarray
    test: np.ndarray
    characters: str


def docstrings(folder: Path) -> dict[str, list[str]]:
    """The docstrings of each module below a folder, by its path, in the order of the paths."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        if _SKIPPED & set(path.relative_to(folder).parts):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in old modules
            tree = ast.parse(path.read_bytes())
        nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        texts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, nodes)]
        found[str(path.relative_to(folder))] = [text for text in texts if text]
    return found


def standard_library(length: int = 64, folder: Path | None = None) -> Text:
    """Windows over the docstrings of the standard library; those to be tested on are of modules of their own."""
    modules = docstrings(folder or Path(sysconfig.get_paths()["stdlib"]))
    parts: list[list[str]] = [[], []]
    for number, texts in enumerate(texts for texts in modules.values() if texts):
        parts[number % _TEST_EVERY == 0].extend(texts)
    train, test = ("\n".join(part) for part in parts)
    characters, counts = np.unique(list(train), return_counts=True)
    known = "".join(characters[counts >= 100])
    return Text(_windows(train, known, length), _windows(test, known, length), known)


def _windows(text: str, characters: str, length: int) -> np.ndarray:
    number = {character: index + 1 for index, character in enumerate(characters)}
    tokens = np.array([number.get(character, 0) for character in text], np.int32)
    count = (len(tokens) - 1) // length
    return np.stack([tokens[i * length : (i + 1) * length + 1] for i in range(count)])


if __name__ == "__main__":
    text = standard_library()
    print(f"{len(text.train):,} windows to train on, {len(text.test):,} to test on, {len(text.characters)} characters")
    print("".join(text.characters[token - 1] if token else "?" for token in text.test[:8, :-1].ravel()))
