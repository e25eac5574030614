"""The rules of the layout, checked on the source: imports point one way, private Keras stays in one file."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfgreen"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [path for path in FILES if path.name != "__init__.py"]
FOLDERS = sorted({path.parent for path in FILES})

# The layout, from the bottom up: a part imports from the parts below it and from itself.
BASE = ("checks", "config", "errors", "files", "structure", "tables", "typing", "version")
ORDER = (
    "model",
    "transforms",
    "quantization",
    "surgery",
    "training",
    "distillation",
    "federated",
    "techniques",
    "deploy",
    "reports",
    "recipes",
)
MAY_IMPORT = {
    **{name: set(BASE) for name in BASE},
    **{name: {*BASE, *ORDER[:place]} for place, name in enumerate(ORDER)},
    "__main__": {"cli"},
    "compat": {*BASE, *ORDER},
    "energy": {*BASE, "model"},  # the account knows nothing of what is counted
    "cli": {*BASE, *ORDER, "energy"},
}
for name in ("federated", "reports", "recipes"):
    MAY_IMPORT[name].add("energy")


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules a file imports, each with whether that happens inside a function."""
    found = []
    tree = parsed(path)
    top = set(map(id, tree.body)) | {id(n) for stmt in tree.body if isinstance(stmt, ast.If) for n in ast.walk(stmt)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "tfgreen":
                names = [f"tfgreen.{alias.name}" for alias in node.names]
        found += [(name, id(node) not in top) for name in names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    if path == PACKAGE / "__init__.py":
        return  # the public surface names everything
    own = part(path)
    for name, _ in imports(path):
        if name.split(".")[0] == "tfgreen" and name != "tfgreen":
            target = name.split(".")[1]
            if target in {"__version__"}:
                continue
            assert target == own or target in MAY_IMPORT[own], f"{own} must not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_odd_dependencies_enter_through_one_door(path):
    relative = str(path.relative_to(PACKAGE))
    for name, inside_function in imports(path):
        root = name.split(".")[0]
        if root == "tensorflow_model_optimization":
            assert relative == "training/schedules.py" and inside_function
        if root == "tf_keras":
            pytest.fail("tf_keras is TFMOT's business")
        if root == "codecarbon":
            assert relative == "energy/codecarbon.py" and inside_function, f"{relative} imports {name}"
        if name.startswith("keras.src"):
            assert relative == "model/internals.py", f"{relative} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_assert_no_swallowed_exception_no_mutable_default_and_types_on_public_signatures(path):
    for node in ast.walk(parsed(path)):
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: assert"
        if isinstance(node, ast.ExceptHandler):
            silent = all(isinstance(stmt, ast.Pass) for stmt in node.body)
            name = getattr(node.type, "id", None)
            broad = node.type is None or name in {"Exception", "BaseException"}
            assert not (silent and broad), f"{path}:{node.lineno}: silent except"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                assert not isinstance(default, (ast.List, ast.Dict, ast.Set)), f"{path}:{node.lineno}: mutable default"
            if not node.name.startswith("_"):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in {"self", "cls"}]
                assert not untyped and node.returns is not None, f"{path}:{node.lineno}: {node.name} {untyped}"


# Private attributes of Keras objects; `_self_...` and dunder names are Python's and TensorFlow's own.
PRIVATE_KERAS = {
    "_build_shapes_dict",
    "_flatten_layers",
    "_functional",
    "_inbound_nodes",
    "_inputs_struct",
    "_keras_history",
    "_layers",
    "_nodes_by_depth",
    "_non_trainable_variables",
    "_outputs_struct",
    "_run_through_graph",
    "_trainable_variables",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_private_keras_attributes_stay_in_internals(path):
    if path == PACKAGE / "model" / "internals.py":
        return
    used = {n.attr for n in ast.walk(parsed(path)) if isinstance(n, ast.Attribute)}
    assert not used & PRIVATE_KERAS


# What silences native code, for the command line; nothing else touches the streams of the user's process.
MAY_REDIRECT = {"cli/entry.py", "cli/quiet.py", "deploy/tflite/apart.py"}  # the last in a process that it starts
STREAMS = {"dup", "dup2", "redirect_stdout", "redirect_stderr", "__stdout__", "__stderr__"}


def root(node: ast.AST) -> str:
    """The first name of ``keras.layers.Dense.call``."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_patches_a_class_of_keras_or_a_stream(path):
    tree = parsed(path)
    foreign = set()  # names that stand for modules and classes of other packages
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            foreign |= {alias.asname or alias.name for alias in node.names}
    for name, _ in imports(path):
        assert not name.startswith(("unittest", "mock")), f"{path} imports {name}"
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, (ast.Assign, ast.Delete)) else [getattr(node, "target", None)]
        if isinstance(node, ast.Call) and root(node.func) in {"setattr", "delattr"}:
            targets = [ast.Attribute(node.args[0], "")]
        patched = [ast.unparse(target) for target in targets if isinstance(target, ast.Attribute)]
        patched = [name for name in patched if name.split(".")[0] in foreign]
        assert not patched, f"{path}:{node.lineno}: {patched}"
        if isinstance(node, ast.Attribute) and node.attr in STREAMS:
            assert str(path.relative_to(PACKAGE)) in MAY_REDIRECT, f"{path}:{node.lineno}: {node.attr}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_public_module_class_and_function_has_a_docstring(path):
    tree = parsed(path)
    assert ast.get_docstring(tree), path
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if any(getattr(decorator, "id", "") == "overload" for decorator in node.decorator_list):
                continue
            assert ast.get_docstring(node), f"{path}:{node.lineno}: {node.name}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: str(p.relative_to(PACKAGE.parent)))
def test_a_folder_holds_at_most_15_modules(folder):
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 15, f"{folder}: {len(modules)}"


def reached(module: str) -> dict[str, str]:
    """Module -> who imports it, of all that importing ``module`` imports at the top; names outside the package too."""
    found, waiting = {}, [(module, "the start")]
    while waiting:
        name, importer = waiting.pop()
        if name in found:
            continue
        found[name] = importer
        path = PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")
        if name.split(".")[0] == "tfgreen" and path.exists():
            waiting += [(target, name) for target in top_imports(path)]
    return found


def top_imports(path: Path) -> list[str]:
    """What a file imports when it is imported itself: not inside functions, not for type checkers only."""
    names = []
    for node in parsed(path).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


RUNS_A_FILE = [p for p in FILES if p.parent == PACKAGE / "deploy" / "tflite"] + [PACKAGE / "deploy" / "litert_model.py"]


@pytest.mark.parametrize("path", RUNS_A_FILE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_bytes_and_load_litert_never_import_keras(path):
    found = reached(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    heavy = {name: importer for name, importer in found.items() if name.split(".")[0] in {"keras", "tensorflow"}}
    assert not heavy
    if "tflite" in path.parts:  # not inside a function either
        assert not {name for name, _ in imports(path)} & {"keras", "tensorflow"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_has_a_test_file(path):
    """``a/b.py`` is tested by ``tests/a/test_b.py``, or by ``test_b_<aspect>.py`` beside it."""
    folder = Path(__file__).parent / path.parent.relative_to(PACKAGE)
    files = [*folder.glob(f"test_{path.stem}.py"), *folder.glob(f"test_{path.stem}_*.py")]
    assert files, f"{folder.relative_to(PACKAGE.parent)}/test_{path.stem}.py is missing"


def test_the_top_level_is_fixed():
    root = PACKAGE.parent
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout")
    files = [line for line in listed.stdout.splitlines() if (root / line).exists()]
    folders = {"tfgreen", "tests", "notebooks", "scripts", ".ci"}
    assert {file.split("/")[0] for file in files} <= {*folders, "setup.cfg", "setup.py", "README.md", ".gitignore"}
    assert all((root / file).stat().st_size < 2**20 for file in files)
