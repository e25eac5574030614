"""The memory of an inference."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.errors import ConversionError

# The first interpreter also brings the library's code into memory, which the second finds there.
_MEASURE = """
import sys
import psutil
from ai_edge_litert.interpreter import Interpreter

process, interpreters, before = psutil.Process(), [], 0
for _ in range(2):
    before = process.memory_info().rss
    interpreter = Interpreter(model_path=sys.argv[1], num_threads=int(sys.argv[2]))
    interpreter.allocate_tensors()
    for _ in range(2):
        interpreter.invoke()
    interpreters.append(interpreter)
print("bytes", process.memory_info().rss - before)
"""


def peak_memory(lite: LiteRTModel, threads: int = 1) -> int:
    """Bytes of resident memory that one more interpreter of the model takes, measured in a process of its own.

    That is the mapped file, the tensors (a dynamic dimension has the size 1), and the weights as XNNPACK packs them,
    without the code of the library. An interpreter frees nothing before it ends: what it holds after two inferences is
    its peak. Memory comes in pages: figures below 100 kB are coarse.

    Raises:
        ConversionError: The interpreter refuses the model, or its process dies.
    """
    with tempfile.TemporaryDirectory(prefix="tfgreen-") as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(lite.content)
        command = [sys.executable, "-c", _MEASURE, str(path), str(threads)]
        child = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if child.returncode:
        reason = child.stderr.strip().splitlines()[-1:] or [f"its process ended with {child.returncode}"]
        raise ConversionError(f"the memory of the model cannot be measured: {reason[0]}")
    return int(child.stdout.rpartition("bytes ")[2])
