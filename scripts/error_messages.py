"""Print every distinct error message that the tests provoke, sorted, one a line, to be read as prose.

    python scripts/error_messages.py [arguments of pytest, such as tests/recipes]

Recorded are all errors of tfgreen's own classes, also those that only the command line sees, and every ValueError and
TypeError that tfgreen's code raises under ``pytest.raises``. Messages that differ in numbers only count as one.
Errors in processes that a test starts are not seen.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import TracebackType

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Recorder:
    """A pytest plugin that collects messages while the tests run."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}

    def add(self, error: object) -> None:
        """Keep the message of an error, if none like it was seen."""
        text = re.sub(r"\S*/pytest-of-\w+/pytest-\d+/[^/\s'\"]+", "TMP", " ".join(str(error).split()))
        self.messages.setdefault(re.sub(r"-?\b(\d[\w.+-]*|nan|inf)", "0", text), text)

    def pytest_configure(self) -> None:
        """Listen to the base of tfgreen's errors and to ``pytest.raises``."""
        from tfgreen.errors import TfgreenError

        recorder, leave = self, pytest.RaisesExc.__exit__

        def created(self: TfgreenError, *args: object) -> None:
            super(TfgreenError, self).__init__(*args)
            recorder.add(self)

        def left(
            self: object, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> bool:
            if isinstance(error, (ValueError, TypeError)) and raised_in_tfgreen(trace):
                recorder.add(error)
            return leave(self, kind, error, trace)

        TfgreenError.__init__ = created
        pytest.RaisesExc.__exit__ = left


def raised_in_tfgreen(trace: TracebackType | None) -> bool:
    """Whether the innermost frame is of the package."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(ROOT / "tfgreen")


def main(arguments: list[str]) -> int:
    """Run the tests in this process and print the messages; the exit code is that of pytest."""
    sys.path.insert(0, str(ROOT))
    recorder = Recorder()
    code = pytest.main(["-n", "0", "-q", "--no-header", "--no-summary", *arguments], plugins=[recorder])
    print(f"\n{len(recorder.messages)} messages", *sorted(recorder.messages.values()), sep="\n")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
