"""What crashes in place of the measuring of operators, in a module that imports as fast as the real one."""

from __future__ import annotations

import os


def crash_on_the_first(content, sample, threads, runs, reasons):
    for number, reason in enumerate(reasons):
        if not reason:
            yield number, ""
            if number == 0:
                os.abort()
    yield {number: 1.0 for number, reason in enumerate(reasons) if not reason}


def crash_at_once(content, sample, threads, runs, reasons):
    os.abort()
    yield
