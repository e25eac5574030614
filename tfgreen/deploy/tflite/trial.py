"""Try a file in a process of its own: on some files LiteRT's runtime ends the process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter

Sample = Mapping[int, np.ndarray]  # index of an input -> what it stores


def try_files(files: Sequence[tuple[bytes, Sequence[Sample]]]) -> Iterator[str]:
    """Run each file on its samples, or on zeros where there are none; yield why it is refused, "" where it runs.

    What comes after the last of these is the file that ended the process.
    """
    for content, samples in files:
        try:
            _run(content, samples)
        except (RuntimeError, ValueError) as error:
            yield str(error)
        else:
            yield ""


def _run(content: bytes, samples: Sequence[Sample]) -> None:
    interpreter = Interpreter(model_content=content)
    details = interpreter.get_input_details()
    for sample in samples or [{detail["index"]: np.zeros(detail["shape"], detail["dtype"]) for detail in details}]:
        for index, values in sample.items():
            interpreter.resize_tensor_input(index, values.shape)  # does nothing for a shape that is the same
        interpreter.allocate_tensors()
        for index, values in sample.items():
            interpreter.set_tensor(index, values)
        interpreter.invoke()
