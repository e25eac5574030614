"""Build the documentation: README, guides, notebooks, and the docstrings of every public name by topic.

    pip install ".[docs]"
    python scripts/build_docs.py --output site

A warning of Sphinx's, a public name in no topic or guide, and a link that leads nowhere within the site are errors.
Guides are in ``scripts/docs/guides/``, topics in ``scripts/docs/topics.json``, settings in ``scripts/docs/conf.py``.
"""

from __future__ import annotations

import argparse
import inspect
import json
import operator
import os
import posixpath
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from site_links import broken_links  # noqa: E402

import tfgreen.compat  # noqa: E402
import tfgreen.federated  # noqa: E402

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "scripts" / "docs"
GUIDES = [DOCS / "guides" / f"{name}.md" for name in json.loads((DOCS / "guides.json").read_text())]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TABLES = [ROOT / "scripts" / "layer_table.md", ROOT / "scripts" / "tfmot_table.md"]
PICTURES = sorted(DOCS.glob("*.svg"))
LINK = re.compile(r"(\]\()([^)\s]+)(\))")  # of Markdown
# File of the repository -> its place in the site.
PLACES = {
    ROOT / "README.md": "index.md",
    **{path: f"guides/{path.name}" for path in GUIDES},
    **{path: f"notebooks/{path.stem}.md" for path in NOTEBOOKS},
    **{path: f"tables/{path.name}" for path in TABLES},
    **{path: path.name for path in PICTURES},
}


def topics() -> dict[str, tuple[str, str, list[str]]]:
    """Page of the API -> its title, what it is for, and its public names in order."""
    found = json.loads((DOCS / "topics.json").read_text())
    return {page: (title, sentence, names.split()) for page, (title, sentence, names) in found.items()}


def public_names() -> list[str]:
    """``prune``, ``federated.client`` and so on; those of ``tfgreen.compat`` are TFMOT's."""
    modules = {"__version__", "federated", "compat"}
    own = [name for name in tfgreen.__all__ if name not in modules]
    return own + [f"federated.{name}" for name in tfgreen.federated.__all__]


def compat_modules(module: ModuleType = tfgreen.compat) -> Iterator[tuple[ModuleType, list[str]]]:
    """The public modules of ``tfgreen.compat``, such as ``tfgreen.compat.sparsity.keras``, each with its names."""
    exported = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    values = {name: getattr(module, name) for name in sorted(exported) if not name.startswith("_")}
    names = [name for name, value in values.items() if not isinstance(value, ModuleType)]
    if names:
        yield module, names
    for value in values.values():
        if isinstance(value, ModuleType) and value.__name__.startswith(f"{module.__name__}."):
            yield from compat_modules(value)


def underlined(title: str, line: str = "=") -> str:
    return f"{title}\n{line * len(title)}\n"


def documented(module: ModuleType, names: list[str], known: dict[int, str]) -> str:
    """A table of names, first sentences beside them, and the docstring of each below it.

    ``known`` holds the full name under which each object has been documented; another name of it leads there.
    """
    rows = "".join(f"   {name}\n" for name in names)
    parts = [f".. currentmodule:: {module.__name__}\n", f".. autosummary::\n   :nosignatures:\n\n{rows}"]
    for name in names:
        full_name = f"{module.__name__}.{name}"
        value = operator.attrgetter(name)(module)
        kind = "class" if isinstance(value, type) else "function"
        first = known.setdefault(id(value), full_name)
        if first != full_name:
            parts.append(f".. py:{kind}:: {name}\n\n   Another name of :py:obj:`{first}`.\n")
        elif value.__name__ != name.split(".")[-1]:
            parts.append(f".. py:{kind}:: {name}\n\n   {inspect.getdoc(value).splitlines()[0]}\n")
        else:
            parts.append(f".. auto{kind}:: {full_name}\n{members(value) if kind == 'class' else ''}")
    return "\n".join(parts)


def members(value: type) -> str:
    """What a class has of its own or from a base of tfgreen's that has no place in the pages."""
    shown = [own for own in value.__mro__ if own.__module__.startswith("tfgreen.")]
    others = {own.__name__ for own in value.__mro__ if own not in shown} | {"Config", "RowResult", "TableResult"}
    return f"   :members:\n   :inherited-members: {', '.join(sorted(others))}\n"


def api_pages() -> dict[str, str]:
    """Page -> reStructuredText."""
    pages: dict[str, str] = {}
    known: dict[int, str] = {}
    for page, (title, sentence, names) in topics().items():
        start = ".. automodule:: tfgreen.federated\n" if page == "federated" else f"{sentence}\n"
        pages[f"api/{page}.rst"] = "\n".join((underlined(title), start, documented(tfgreen, names, known)))
    sections = [underlined("TFMOT's names"), ".. automodule:: tfgreen.compat\n"]
    for module, names in compat_modules():
        path = module.__name__.replace("tfgreen.compat", "tfmot")
        sections += [underlined(path, "-"), documented(module, names, known)]
    return pages | {"api/compat.rst": "\n".join(sections)}


def notebook_text(path: Path) -> str:
    """A notebook as Markdown; its outputs are not kept."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join([*parts, f"This page is `notebooks/{path.name}`."]) + "\n"


def at_home(text: str, path: Path) -> str:
    """The links of a file, which lead to files of the repository, as links between pages of the site."""

    def moved(match: re.Match[str]) -> str:
        file, _, anchor = match[2].partition("#")
        place = PLACES.get((path.parent / file).resolve())
        if place is None or not file or "://" in file:
            return match[0]
        target = posixpath.relpath(place, posixpath.dirname(PLACES[path]) or ".")
        return f"{match[1]}{target}{'#' if anchor else ''}{anchor}{match[3]}"

    return LINK.sub(moved, text)


def contents() -> str:
    """What the first page adds to the README for the site: the tree of pages, which stands beside each."""
    groups = {
        "Guides": [PLACES[path] for path in GUIDES],
        "Notebooks": [PLACES[path] for path in NOTEBOOKS],
        "Public names": [f"api/{page}" for page in (*topics(), "compat")],
        "Tables": [PLACES[path] for path in TABLES],
    }
    trees = []
    for caption, pages in groups.items():
        lines = "\n".join(page.removesuffix(".md") for page in pages)
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n")
    return "\n" + "\n".join(trees)


def write_sources(folder: Path) -> None:
    """Everything that Sphinx reads, but its settings."""
    for path, place in PLACES.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".svg":
            shutil.copy(path, target)
            continue
        text = at_home(notebook_text(path) if path.suffix == ".ipynb" else path.read_text(), path)
        if path in TABLES:
            text = f"# {'Layers of Keras' if path.stem == 'layer_table' else 'Names of TFMOT'}\n\n{text}"
        target.write_text(text + (contents() if place == "index.md" else ""))
    for place, text in api_pages().items():
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text(text)


def is_gone(name: str) -> bool:
    try:
        operator.attrgetter(name)(tfgreen)
    except AttributeError:
        return True
    return False


def missing_names() -> list[str]:
    """What to do about public names that no topic or no guide has, and about names that are not public."""
    listed = [name for _, _, names in topics().values() for name in names]
    public = public_names()
    text = "\n".join(path.read_text() for path in (ROOT / "README.md", *GUIDES, *NOTEBOOKS))
    return [
        *(f"{name} is in no topic of scripts/docs/topics.json" for name in public if name not in listed),
        *(f"{name} is in scripts/docs/topics.json and is no public name" for name in listed if is_gone(name)),
        *(f"{name} is named in no guide" for name in public if not re.search(rf"\btg\.{re.escape(name)}\b", text)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the site goes")
    output = parser.parse_args().output
    from sphinx.cmd.build import main as sphinx

    problems = missing_names()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        write_sources(source)
        options = ["--fail-on-warning", "--keep-going", "--quiet", "--builder", "html"]
        code = sphinx([*options, "--conf-dir", str(DOCS), "-d", f"{folder}/trees", str(source), str(output)])
    problems += broken_links(output)
    print("\n".join(problems) or f"{output / 'index.html'}: no broken link", file=sys.stderr if problems else None)
    return 1 if problems else code


if __name__ == "__main__":
    sys.exit(main())
