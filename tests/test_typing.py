"""Names of types: no import of Keras or TensorFlow, and each resolves."""

from __future__ import annotations

import ast
import builtins
import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from tfgreen import typing as names


def test_importing_them_imports_nothing_heavy():
    code = "import sys, tfgreen.typing; sys.exit(bool({'keras', 'numpy', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_name_inside_an_alias_exists():
    known = {**vars(builtins), **vars(names), "keras": keras, "np": np, "tf": tf}
    for alias in (value for name, value in vars(names).items() if not name.startswith("_")):
        if isinstance(alias, str):
            for node in ast.walk(ast.parse(alias)):
                if isinstance(node, (ast.Name, ast.Attribute)):
                    assert eval(ast.unparse(node), known), alias
