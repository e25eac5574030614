"""The documentation: every public name is in a guide and has a place in the built site, whose links lead somewhere."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        yield importlib.import_module("build_docs")


def test_every_public_name_is_in_a_topic_and_in_a_guide(script):
    assert len(script.public_names()) > 150
    assert script.missing_names() == []


def test_a_name_without_topic_or_guide_is_told(script, monkeypatch):
    monkeypatch.setattr(script, "public_names", lambda: ["prune", "unheard_of"])
    monkeypatch.setattr(script, "topics", lambda: {"page": ("Page", "A page.", ["prune", "gone"])})
    assert script.missing_names() == [
        "unheard_of is in no topic of scripts/docs/topics.json",
        "gone is in scripts/docs/topics.json and is no public name",
        "unheard_of is named in no guide",
    ]


def test_links_to_files_become_links_between_pages(script):
    text = "[a](scripts/docs/guides/energy.md#carbon) [b](https://flower.ai) [c](#figures) [d](notebooks/bert.ipynb)"
    moved = "[a](guides/energy.md#carbon) [b](https://flower.ai) [c](#figures) [d](notebooks/bert.md)"
    assert script.at_home(text, script.ROOT / "README.md") == moved
    guide = script.DOCS / "guides" / "distil.md"
    assert script.at_home("[x](../../../README.md#figures)", guide) == "[x](../index.md#figures)"


def test_links_of_the_files_themselves_lead_somewhere(script):
    """As on a page of the repository, before they are moved."""
    for path in (script.ROOT / "README.md", *script.GUIDES):
        for target in script.LINK.findall(path.read_text()):
            file = target[1].partition("#")[0]
            assert "://" in file or (path.parent / file).exists(), f"{path.name}: {target[1]}"


@pytest.mark.parametrize("name", ["energy", "tfmot", "train"])
def test_the_first_example_of_a_guide_runs_as_it_is_pasted(script, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (script.DOCS / "guides" / f"{name}.md").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(example, {})


def test_broken_links_and_anchors_are_found(script, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text('<h1 id="top"><a href="sub/page.html#here">a</a><img src="gone.svg">')
    page = '<p id="there"><a href="../index.html#top">b</a><a href="#there">c</a><a href="https://keras.io/#x">d</a>'
    (tmp_path / "sub" / "page.html").write_text(page)
    assert script.broken_links(tmp_path) == ["index.html: gone.svg", "index.html: sub/page.html#here"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_every_public_name_has_its_place(script, tmp_path):
    for module in ("sphinx", "furo", "myst_parser", "sphinx_copybutton"):
        pytest.importorskip(module, reason="the documentation needs pip install .[docs]")
    build = [sys.executable, str(SCRIPTS / "build_docs.py"), "--output", str(tmp_path / "site")]
    run = subprocess.run(build, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    text = "\n".join(path.read_text() for path in (tmp_path / "site" / "api").glob("*.html"))
    names = [f"tfgreen.{name}" for name in script.public_names()]
    names += [f"{module.__name__}.{name}" for module, own in script.compat_modules() for name in own]
    assert [name for name in names if f'id="{name}"' not in text] == []
    assert (tmp_path / "site" / "_images" / "variants.svg").exists()
