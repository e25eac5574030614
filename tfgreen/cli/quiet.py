"""Start TensorFlow and LiteRT without their native logs; the command line only, as this redirects file descriptors."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def quiet_native_output() -> Iterator[list[str]]:
    """Capture what C++ code writes to file descriptors 1 and 2, and hush TensorFlow's logger, while the block runs.

    Python's own ``print`` and ``warnings`` go to the same descriptors, so keep the block small. Yields a list that
    holds the captured text once the block has ended, whether or not it raised.
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


@contextlib.contextmanager
def python_stderr_only() -> Iterator[None]:
    """Drop what C++ code writes to file descriptor 2, and what TensorFlow logs below errors, while the block runs.

    What Python writes to the descriptor is shown, and where it was when C++ code crashes.
    """
    logger = logging.getLogger("tensorflow")
    level = logger.level
    own = _descriptor(sys.stderr) == 2
    sys.stderr.flush()
    saved = os.dup(2)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, saved)
        if own:
            shown = stack.enter_context(open(saved, "w", buffering=1, errors="backslashreplace", closefd=False))
            stack.enter_context(contextlib.redirect_stderr(shown))
            faulthandler.enable(shown)
            stack.callback(faulthandler.disable)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        stack.callback(os.dup2, saved, 2)
        stack.callback(logger.setLevel, level)
        logger.setLevel(logging.ERROR)
        yield


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):  # of an interactive shell, or closed
        return None


def start_tensorflow() -> None:
    """Import TensorFlow and ask it for its devices: both write a log the first time."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no notes on CPU features later on; errors are still shown
    with quiet_native_output():
        import tensorflow as tf

        tf.config.list_physical_devices()


def start_litert() -> None:
    """Run an interpreter of one operator: LiteRT logs a line about XNNPACK for the first one that it delegates."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

    tensors = [schema.TensorT([1], name=name) for name in ("x", "y")]
    code = schema.OperatorCodeT(schema.BuiltinOperator.ABS, builtinCode=schema.BuiltinOperator.ABS)
    graph = schema.SubGraphT(tensors, [0], [1], [schema.OperatorT(0, [0], [1])])
    model = schema.ModelT(3, [code], [graph], buffers=[schema.BufferT()])
    with quiet_native_output():
        Interpreter(model_content=bytes(convert_object_to_bytearray(model))).allocate_tensors()
