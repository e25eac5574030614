"""Every public name of TFMOT and its state in ``tfgreen.compat``: writes ``tfmot_table.md`` beside this script.

    python scripts/tfmot_table.py

The names and their arguments are read off the installed TFMOT. "present": the name is there, takes the arguments of
TFMOT's and does its work. "answered": it raises when it is made, called or applied, and says what there is instead.
"not": it is missing, or lacks an argument that the row names.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tfgreen.compat  # noqa: E402
from tfgreen.compat.answered import Answered  # noqa: E402
from tfgreen.errors import TfgreenError  # noqa: E402

TABLE = Path(__file__).with_suffix(".md")
# In a process of its own: importing TFMOT turns the tf.keras of a process into Keras 2.
_READ = """
import inspect, json, types
import tensorflow_model_optimization as tfmot
found = {}
def visit(prefix, module):
    for name in dir(module):
        value, path = getattr(module, name), f"{prefix}.{name}"
        if name.startswith("_") or type(value).__name__ == "_Feature":
            continue
        if not isinstance(value, types.ModuleType):
            parameters = inspect.signature(value).parameters.values()
            found[path] = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
        elif ".core.api" in value.__name__:
            visit(path, value)
        else:
            found[path] = []
visit("tfmot", tfmot)
print(json.dumps(found))
"""


def names_of_tfmot() -> dict[str, list[str]]:
    """The public names of the installed TFMOT, ``tfmot.sparsity.keras.prune_scope``, each with its arguments."""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", _READ], capture_output=True, text=True, check=True)
    return dict(json.loads(run.stdout.splitlines()[-1]))


def state(path: str, arguments: list[str]) -> str:
    """The state of a name of TFMOT's, given its arguments."""
    value: object = tfgreen.compat
    for name in path.split(".")[1:]:
        if not hasattr(value, name):
            return "not: missing"
        value = getattr(value, name)
    if inspect.ismodule(value):
        return "present"
    if not callable(value):
        return "not: it cannot be called"
    if is_answer(value):
        return "answered"
    parameters = inspect.signature(value).parameters
    takes_any = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    lacking = [name for name in arguments if name not in parameters and not takes_any]
    return f"not: without {', '.join(lacking)}" if lacking else "present"


def is_answer(value: object) -> bool:
    """Whether a name stands for an error that says what there is instead."""
    if isinstance(value, type) and hasattr(value, "apply") and not inspect.isabstract(value):
        value = value.apply
    elif isinstance(value, type):
        return issubclass(value, Answered)
    try:
        value(*[None] * sum(p.default is p.empty for p in inspect.signature(value).parameters.values()))
    except TfgreenError as error:
        return "has no counterpart in tfgreen" in str(error)
    except Exception:  # noqa: B902 - a name that does its work refuses these arguments in one way or another
        return False
    return False


def table() -> str:
    """The table as Markdown."""
    states = {path: state(path, arguments) for path, arguments in sorted(names_of_tfmot().items())}
    counts = Counter(text.partition(":")[0] for text in states.values())
    share = (counts["present"] + counts["answered"]) / len(states)
    lines = [
        f"Made by `scripts/tfmot_table.py` with TFMOT {version('tensorflow-model-optimization')}. A name that is "
        "*present* does its work; one that is *answered* raises when it is made, called or applied, and says what "
        "there is instead.",
        "",
        f"{len(states)} names: {counts['present']} present, {counts['answered']} answered, {counts['not']} not "
        f"({share:.1%} present or answered).",
        "",
        "| Name | State |",
        "|---|---|",
        *(f"| `{path}` | {text} |" for path, text in states.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table())
    print(table().splitlines()[2])
