"""The scripts that print figures of the project: each command runs, on little, and prints a line for each model."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tests import zoo
from tests.deploy.conversion import test_open_sizes as open_sizes

pytestmark = pytest.mark.slow


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script with arguments; what it returns, and the lines that it prints."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")

    def call(name: str, *arguments: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        status = importlib.import_module(name).main()
        return status, capsys.readouterr().out.splitlines()

    return call


def test_sizes_norms_and_open_sizes_have_a_line_for_each_model(run, monkeypatch):
    monkeypatch.setattr(zoo, "ZOO", {"functional": zoo.functional})
    status, (_, line, largest) = run("bench_files", "sizes")
    name, trained, after, ratio = line.split()
    assert (status, name) == (0, "functional") and 0.9 < float(ratio) < 1.05 and largest.endswith(ratio)
    module = importlib.import_module("bench_files")
    monkeypatch.setattr(module, "NORMS", {"BatchNormalization": module.NORMS["BatchNormalization"]})
    status, (_, line) = run("bench_files", "norms")
    assert status == 0 and all(float(word) > 20 for word in line.split()[1:3])
    monkeypatch.setattr(open_sizes, "MODELS", {"longer": open_sizes.MODELS["longer"]})
    assert run("bench_files", "open")[1][-1] == "5 runs, 0 wrong"


def test_threads_make_the_files_and_outputs_that_one_makes(run):
    status, lines = run("check_threads", "--conversions", "4", "--predictions", "24")
    assert status == 0 and lines[0].startswith("4 conversions from 4 threads: 0 differ")
    assert lines[1].startswith("24 predictions from 8 threads: 0 differ") and lines[2].endswith("what they were")


def test_false_alarms_are_counted_and_a_wrong_scale_is_the_control(run):
    arguments = ("--models", "batchnorm", "--draws", "2", "--steps", "60", "--scales", "255")
    status, lines = run("check_alarms", *arguments)
    assert (status, lines[-1]) == (0, "2 checks, 0 false alarms") and "found 1 of 1 times" in lines[0]


def test_the_look_at_a_file_has_its_share_of_the_conversion(run):
    lines = run("bench_conversion", "look", "--networks", "resnet8", "--modes", "float32", "--rounds", "1")[1]
    wall, whole, share = lines[1].split()[2:5]
    assert 0 < float(wall) < float(whole) and share.endswith("%")
