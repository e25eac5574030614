"""The bytes of a file as C source, for a device without a file system."""

from __future__ import annotations

import re

from tfgreen.errors import invalid_value

HEADERS, SOURCES = (".h", ".hpp"), (".c", ".cc", ".cpp")

_PER_LINE = 16
_KEYWORDS = frozenset(
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const const_cast "
    "consteval constexpr constinit continue decltype default delete do double dynamic_cast else enum explicit export "
    "extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator "
    "or or_eq private protected public register reinterpret_cast requires restrict return short signed sizeof static "
    "static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename typeof "
    "union unsigned using virtual void volatile wchar_t while xor xor_eq".split()
)


def c_source(content: bytes, symbol: str, suffix: str, comment: str) -> str:
    """Write bytes as an array on a 16-byte boundary, and their count; needs C11 or C++11.

    ``SYMBOL`` and ``SYMBOL_len`` are visible to other files where ``suffix`` is that of a source, which declare them
    ``extern const unsigned char SYMBOL[]`` and ``extern const unsigned int SYMBOL_len``. In a header they are static.

    Raises:
        ValueError: ``symbol`` is no identifier of C and C++.

    Example:
        >>> print(c_source(b"AB", "digits", ".h", "two bytes"))
        // two bytes
        #ifndef __cplusplus
        #include <stdalign.h>
        #endif
        #pragma once
        alignas(16) static const unsigned char digits[] = {
            0x41, 0x42,
        };
        static const unsigned int digits_len = 2;
        <BLANKLINE>
    """
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", symbol) or symbol in _KEYWORDS:
        raise invalid_value("name", expected="an identifier of C and C++", received=repr(symbol), fix="Pass name=.")
    numbers = [f"0x{byte:02x}," for byte in content]
    rows = ["    " + " ".join(numbers[i : i + _PER_LINE]) for i in range(0, len(numbers), _PER_LINE)]
    bytes_of, count_of = f"const unsigned char {symbol}[]", f"const unsigned int {symbol}_len"
    header = suffix in HEADERS
    # Without a declaration before it, a constant of C++ stays inside its file.
    opening = ["#pragma once"] if header else [f"extern {bytes_of};", f"extern {count_of};"]
    static = "static " if header else ""
    return "\n".join(
        [
            f"// {comment}",
            "#ifndef __cplusplus",
            "#include <stdalign.h>",
            "#endif",
            *opening,
            f"alignas(16) {static}{bytes_of} = {{",
            *rows,
            "};",
            f"{static}{count_of} = {len(content)};",
            "",
        ]
    )
