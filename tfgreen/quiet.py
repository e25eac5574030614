"""Keep native log output (TensorFlow's import, the converter) off the user's terminal without hiding errors."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_native_output() -> Iterator[list[str]]:
    """Capture what C++ code writes to file descriptors 1 and 2, and hush TensorFlow's logger, while the block runs.

    Python's own ``print`` and ``warnings`` go to the same descriptors, so keep the block small. TensorFlow's Python
    logger is held to errors, because in a notebook it does not write to a descriptor. Yields a list that holds the
    captured text once the block has ended, whether or not it raised; the caller puts it into its error.

    Example:
        >>> import os
        >>> with quiet_native_output() as captured:
        ...     _ = os.write(2, b"noise")
        >>> captured
        ['noise']
    """
    captured: list[str] = []
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        saved = [os.dup(1), os.dup(2)]
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            yield captured
        finally:
            logger.setLevel(level)
            sys.stdout.flush()
            sys.stderr.flush()
            for original, target in zip(saved, (1, 2)):
                os.dup2(original, target)
                os.close(original)
            log.seek(0)
            captured.append(log.read().decode(errors="replace"))
