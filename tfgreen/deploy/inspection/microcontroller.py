"""What a microcontroller needs: the memory for a model's tensors, and its bytes as C source."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.flatbuffer import buffer_bytes, dtype_name, shape_of, text_of
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.files import write_atomic

_ALIGNMENT = 16
_PER_LINE = 16
_HEADERS, _SOURCES = (".h", ".hpp"), (".c", ".cc", ".cpp")
_KEYWORDS = frozenset(
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const const_cast "
    "consteval constexpr constinit continue decltype default delete do double dynamic_cast else enum explicit export "
    "extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator "
    "or or_eq private protected public register reinterpret_cast requires restrict return short signed sizeof static "
    "static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename typeof "
    "union unsigned using virtual void volatile wchar_t while xor xor_eq".split()
)


@dataclasses.dataclass(frozen=True)
class ArenaEstimate:
    """Memory for the tensors of a model on a microcontroller; prints as a sentence.

    Attributes:
        planned_bytes: Size of the tensors as a greedy planner lays them out.
        lower_bound_bytes: The most that is alive at once; no layout needs less.
        peak: The operator at which that is, with its Keras layers or else the tensor it makes.
    """

    planned_bytes: int
    lower_bound_bytes: int
    peak: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON, and ``"source": "estimated: tensors only"``."""
        return {**dataclasses.asdict(self), "source": "estimated: tensors only"}

    def __str__(self) -> str:
        return (
            f"{self.planned_bytes:,} bytes for tensors (estimated; at least {self.lower_bound_bytes:,}, "
            f"at {self.peak}); scratch buffers and the interpreter come on top"
        )


def arena_bytes(lite: LiteRTModel) -> ArenaEstimate:
    """Estimate the tensor arena that LiteRT for Microcontrollers needs for a file.

    Every tensor that is not constant takes memory from the operator that makes it to the last that reads it: inputs
    from the start, outputs to the end, variables always. Sizes are rounded up to 16 bytes. The layout is greedy by
    size (Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net Inference", arXiv:2001.03288): the
    largest tensor first, each at the first gap between those alive with it. (The paper takes the smallest gap that
    fits, the planner of LiteRT for Microcontrollers the first.)

    Not in it: scratch buffers of kernels (an int8 TRANSPOSE_CONV takes 4 bytes per element of its output), and what the
    interpreter keeps for operators and tensors. Both depend on the version and the kernels of the target; only
    ``MicroInterpreter::arena_used_bytes()`` on the device knows.

    Raises:
        TypeError: ``lite`` is no ``LiteRTModel``.
        ValueError: A size is dynamic, a tensor has no fixed size, or the file has loops or branches, whose tensors are
            in graphs of their own.

    Example:
        >>> import keras, tfgreen as tg
        >>> layers = [keras.layers.Dense(100, name="wide"), keras.layers.Dense(8, name="out")]
        >>> lite = tg.convert(keras.Sequential([keras.Input((20,)), *layers]))
        >>> print(tg.arena_bytes(lite))
        480 bytes for tensors (estimated; at least 480, at FULLY_CONNECTED of 'wide'); scratch buffers and the \
interpreter come on top
    """
    if not isinstance(lite, LiteRTModel):
        raise invalid_type("lite", expected="a LiteRTModel", received=lite)
    if len(lite.parsed.subgraphs) > 1:
        raise invalid_value(
            "lite", expected="a file without loops and branches", received=f"{len(lite.parsed.subgraphs)} graphs",
            fix="Give recurrent layers unroll=True and a fixed number of steps.",
        )  # fmt: skip
    graph = lite.parsed.subgraphs[0]
    first, last = _lifetimes(graph)
    planned = [i for i in sorted(first) if _is_planned(lite, graph.tensors[i])]
    sizes = [_aligned_size(graph.tensors[i]) for i in planned]
    starts, ends = [first[i] for i in planned], [last[i] for i in planned]
    variables = sum(_aligned_size(tensor) for tensor in graph.tensors if tensor.isVariable)
    alive = alive_bytes(sizes, starts, ends)
    end = max((offset + size for offset, size in zip(plan(sizes, starts, ends), sizes)), default=0)
    return ArenaEstimate(end + variables, max(alive, default=0) + variables, _peak(lite, alive))


def plan(sizes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Lay buffers out in memory, the largest first.

    Args:
        sizes: Bytes of each buffer.
        starts: The first time at which it is alive.
        ends: The last.

    Returns:
        The offset of each. Buffers that are alive at the same time do not overlap.

    Example:
        >>> plan([100, 50, 60], starts=[0, 1, 2], ends=[1, 2, 3])
        [0, 100, 0]
    """
    offsets: dict[int, int] = {}
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], -i)):  # of equal ones the last, as on the device
        offset = 0
        for j in sorted(offsets, key=lambda j: offsets[j]):
            if starts[j] <= ends[i] and starts[i] <= ends[j]:
                if offsets[j] - offset >= sizes[i]:
                    break
                offset = max(offset, offsets[j] + sizes[j])
        offsets[i] = offset
    return [offsets[i] for i in range(len(sizes))]


def alive_bytes(sizes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The bytes alive at each time from 0 on.

    Example:
        >>> alive_bytes([100, 50, 60], starts=[0, 1, 2], ends=[1, 2, 3])
        [100, 150, 110, 60]
    """
    times = range(max(ends, default=-1) + 1)
    return [sum(size for size, a, b in zip(sizes, starts, ends) if a <= time <= b) for time in times]


def write_c_array(lite: LiteRTModel, path: str | os.PathLike[str], name: str | None = None) -> Path:
    """Write a model as C source: its bytes in an array on a 16-byte boundary, and their count.

    ``NAME`` and ``NAME_len`` are visible to other files where ``path`` is a source (``.c``, ``.cc``, ``.cpp``), which
    declare them ``extern const unsigned char NAME[]`` and ``extern const unsigned int NAME_len``. In a header (``.h``,
    ``.hpp``) they are static. Needs C11 or C++11.

    Args:
        lite: The model.
        path: Where to write, whole or not at all.
        name: The name of the array; None for the name of the file without its suffix.

    Returns:
        The path written.

    Raises:
        TypeError: ``lite`` is no ``LiteRTModel``.
        ValueError: ``path`` has another suffix, or the name is no identifier of C and C++.
        FileError: The folder is missing or cannot be written.

    Example:
        >>> import keras, tfgreen as tg
        >>> lite = tg.convert(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        >>> tg.write_c_array(lite, "digits.cc").read_text().splitlines()[6]
        'alignas(16) const unsigned char digits[] = {'
    """
    if not isinstance(lite, LiteRTModel):
        raise invalid_type("lite", expected="a LiteRTModel", received=lite)
    target = Path(path)
    if target.suffix not in _HEADERS + _SOURCES:
        raise invalid_value("path", expected=f"one that ends in {', '.join(_SOURCES + _HEADERS)}", received=str(path))
    symbol = target.stem if name is None else name
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", symbol) or symbol in _KEYWORDS:
        fix = "Pass name=." if name is None else ""
        raise invalid_value("name", expected="an identifier of C and C++", received=repr(symbol), fix=fix)
    return write_atomic(target, _c_source(lite, symbol, target.suffix in _HEADERS))


def _c_source(lite: LiteRTModel, symbol: str, header: bool) -> str:
    pairs = [f"0x{byte:02x}," for byte in lite.content]
    rows = ["    " + " ".join(pairs[i : i + _PER_LINE]) for i in range(0, len(pairs), _PER_LINE)]
    bytes_of, count_of = f"const unsigned char {symbol}[]", f"const unsigned int {symbol}_len"
    # Without a declaration before it, a constant of C++ stays inside its file.
    opening = ["#pragma once"] if header else [f"extern {bytes_of};", f"extern {count_of};"]
    static = "static " if header else ""
    return "\n".join(
        [
            f"// LiteRT model, {lite.quantization}, {lite.size_bytes} bytes",
            "#ifndef __cplusplus",
            "#include <stdalign.h>",
            "#endif",
            *opening,
            f"alignas({_ALIGNMENT}) {static}{bytes_of} = {{",
            *rows,
            "};",
            f"{static}{count_of} = {lite.size_bytes};",
            "",
        ]
    )


def _peak(lite: LiteRTModel, alive: Sequence[int]) -> str:
    """The operator at the time when most is alive."""
    if not lite.audit.operators:
        return "no operator"
    status = lite.audit.operators[max(int(np.argmax(alive)) - 1, 0)]
    return f"{status.operator} of {', '.join(map(repr, status.layers)) or repr(status.tensor)}"


def _lifetimes(graph: Any) -> tuple[dict[int, int], dict[int, int]]:
    """The first and the last time at which tensors are in use; time 0 is before the first operator."""
    first = {int(i): 0 for i in graph.inputs}
    last = dict(first)
    for time, operator in enumerate(graph.operators, 1):
        used = [int(i) for i in (*operator.outputs, *operator.inputs) if i >= 0]
        first |= {i: time for i in used if i not in first}
        last |= dict.fromkeys(used, time)
    for i in graph.outputs:
        first.setdefault(int(i), 0)
        last[int(i)] = len(graph.operators)
    return first, last


def _is_planned(lite: LiteRTModel, tensor: Any) -> bool:
    return not tensor.isVariable and not len(buffer_bytes(lite.parsed, tensor.buffer, lite.content))


def _aligned_size(tensor: Any) -> int:
    dtype, subject = dtype_name(tensor), f"tensor '{text_of(tensor.name)}'"
    if tensor.shapeSignature is not None and (tensor.shapeSignature < 0).any():
        raise invalid_value(
            subject, expected="a fixed size", received=f"shape {tensor.shapeSignature.tolist()}",
            fix="Give every keras.Input a full shape and convert again.",
        )  # fmt: skip
    if dtype not in np.sctypeDict:
        raise invalid_value(subject, expected="a dtype of fixed size", received=dtype)
    size = math.prod(shape_of(tensor)) * np.dtype(dtype).itemsize
    return -(-size // _ALIGNMENT) * _ALIGNMENT
