"""What a text on the command line stands for, or what was expected of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def whole(least: int) -> Callable[[str], int]:
    """The type of whole numbers from ``least``."""

    def integer(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) < 2**32:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least}, received '{text}'")
        return int(text)

    return integer


def folder(text: str) -> str:
    """The path of a folder, that may be none yet."""
    if Path(text).suffix in (".tflite", ".keras", ".h5", ".html", ".json") and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder to write to, received a file, '{text}'")
    return text


def layer_mode(text: str) -> tuple[str, str]:
    """LAYER=MODE as the two."""
    layer, _, mode = text.rpartition("=")
    if not layer or mode not in ("float32", "int8", "int4"):
        raise argparse.ArgumentTypeError(f"expected LAYER=float32, LAYER=int8 or LAYER=int4, received '{text}'")
    return layer, mode


def positive(text: str) -> float:
    """A finite number above 0."""
    return _between(text, float("inf"), "a number above 0")


def share(text: str) -> float:
    """A number between 0 and 1."""
    return _between(text, 1, "a number between 0 and 1")


def image_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH as the two."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, such as 96x96, received '{text}'")
    return int(sides[0]), int(sides[1])


def _between(text: str, below: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < below:
        raise argparse.ArgumentTypeError(f"expected {expected}, received '{text}'")
    return value
