"""Text that needs no download: the docstrings of Python's standard library, as characters to learn a language from, and
as words, of which to tell the package that they describe.

    python scripts/text_data.py

Which docstrings there are depends on the version of Python; of one version the text is always the same.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import re
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


@dataclasses.dataclass(frozen=True)
class Topics:
    """Pieces of docstrings as numbers of words, int32 of shape (pieces, length), and the packages that they are from.

    Of ``vocabulary``, 0 is padding and 1 any other word; the pieces to be tested on are of docstrings of their own.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    vocabulary: list[str]
    classes: list[str]


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


def topics(length: int = 12, classes: int = 12, folder: Path | None = None) -> Topics:
    """Pieces of the docstrings of the packages that have most of them: which one is a piece from?"""
    texts: dict[str, list[list[str]]] = collections.defaultdict(list)
    for path, found in docstrings(folder or Path(sysconfig.get_paths()["stdlib"])).items():
        name = path.split("/")[0].removesuffix(".py")
        # Its own name would give a package away.
        texts[name] += [re.findall(r"[a-z]+|[^\sa-z]", text.lower().replace(name, "")) for text in found]
    names = sorted(texts, key=lambda name: -sum(map(len, texts[name])))[:classes]
    parts: list[list[tuple[list[str], int]]] = [[], []]
    for label, name in enumerate(names):
        for number, words in enumerate(texts[name]):
            pieces = [words[start : start + length] for start in range(0, len(words), length)]
            parts[number % 4 == 0] += [(piece, label) for piece in pieces if len(piece) >= length // 3]
    counts = collections.Counter(word for piece, _ in parts[0] for word in piece)
    known = ["[PAD]", "[UNK]", *sorted(word for word, count in counts.items() if count >= 2)]
    number_of = {word: number for number, word in enumerate(known)}
    arrays = []
    for part in parts:
        rows = [[number_of.get(word, 1) for word in piece] for piece, _ in part]
        arrays.append(np.array([row + [0] * (length - len(row)) for row in rows], np.int32))
        arrays.append(np.array([label for _, label in part], np.int32))
    return Topics(*arrays, known, names)


def _windows(text: str, characters: str, length: int) -> np.ndarray:
    number = {character: index + 1 for index, character in enumerate(characters)}
    tokens = np.array([number.get(character, 0) for character in text], np.int32)
    count = (len(tokens) - 1) // length
    return np.stack([tokens[i * length : (i + 1) * length + 1] for i in range(count)])


if __name__ == "__main__":
    text = standard_library()
    print(f"{len(text.train):,} windows to train on, {len(text.test):,} to test on, {len(text.characters)} characters")
    found = topics()
    print(f"{len(found.x_train):,} pieces to train on, {len(found.x_test):,} to test on, of {found.classes}")
    print("".join(text.characters[token - 1] if token else "?" for token in text.test[:8, :-1].ravel()))
