"""The bytes of a file as C source, for a device without a file system."""

from __future__ import annotations

import re

from tfgreen.errors import invalid_value

HEADERS, SOURCES = (".h", ".hpp"), (".c", ".cc", ".cpp")

_KEYWORDS = frozenset(
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const const_cast "
    "consteval constexpr constinit continue decltype default delete do double dynamic_cast else enum explicit export "
    "extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator "
    "or or_eq private protected public register reinterpret_cast requires restrict return short signed sizeof static "
    "static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename typeof "
    "union unsigned using virtual void volatile wchar_t while xor xor_eq".split()
)
_TEMPLATE = """\
// {comment}
#ifndef __cplusplus
#include <stdalign.h>
#endif
{opening}
alignas(16) {static}const unsigned char {symbol}[] = {{
{rows}
}};
{static}const unsigned int {symbol}_len = {count};
"""
# Without a declaration before it, a constant of C++ stays inside its file.
_DECLARATIONS = "extern const unsigned char {symbol}[];\nextern const unsigned int {symbol}_len;"


def c_source(content: bytes, symbol: str, suffix: str, comment: str) -> str:
    """Write bytes as an array on a 16-byte boundary, and their count; other files see both, but in a header not."""
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", symbol) or symbol in _KEYWORDS:
        raise invalid_value("name", expected="an identifier of C and C++", received=repr(symbol), fix="Pass name=.")
    numbers = [f"0x{byte:02x}," for byte in content]
    rows = ["    " + " ".join(numbers[i : i + 16]) for i in range(0, len(numbers), 16)]
    opening, static = ("#pragma once", "static ") if suffix in HEADERS else (_DECLARATIONS.format(symbol=symbol), "")
    return _TEMPLATE.format(
        comment=comment, opening=opening, static=static, symbol=symbol, rows="\n".join(rows), count=len(content)
    )
