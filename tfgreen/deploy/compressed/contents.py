"""Arrays one after the other in a row of bytes, each described by a form that JSON can hold."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfgreen.deploy.compressed.coding import Coded, decode, encode
from tfgreen.errors import invalid_value
from tfgreen.typing import FilePath, PlainDict


class Writer:
    """Collects the bytes of arrays."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def add(self, array: np.ndarray) -> PlainDict:
        """Append an array in its shortest code; returns its form."""
        return self._append(encode(array), array)

    def add_file(self, content: bytes) -> PlainDict:
        """Append bytes as they are: deflating makes text smaller than codes would; returns their form."""
        return self._append(Coded("raw", 0, len(content), 0, content), np.frombuffer(content, np.uint8))

    def _append(self, coded: Coded, array: np.ndarray) -> PlainDict:
        self.parts.append(coded.data)
        form = {key: value for key, value in vars(coded).items() if key != "data"}
        return {"shape": list(array.shape), "dtype": array.dtype.name, "bytes": len(coded.data), **form}


class Reader:
    """Takes the arrays that a :class:`Writer` added, in the same order; a form that does not fit is damage."""

    def __init__(self, path: FilePath, data: bytes) -> None:
        self._path, self._data, self._start = path, data, 0

    def take(self, name: str, form: PlainDict) -> np.ndarray:
        """The next array."""
        try:
            end = self._start + form["bytes"]
            coded = Coded(form["form"], form["values"], form["stored"], form["gap_bits"], self._data[self._start : end])
            dtype = tf.as_dtype(form["dtype"]).as_numpy_dtype  # NumPy itself does not know bfloat16 by name
            array = decode(coded, tuple(form["shape"]), dtype)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(self._path, f"'{name}' described by {form}: {error}") from error
        self._start = end
        return array


def damaged(path: FilePath, received: str) -> Exception:
    """The error for a file that is not what was written."""
    return invalid_value(f"file '{path}'", expected="a whole file of tg.save_compressed", received=received)
