"""The search on problems with a formula: which candidates end where, when it ends, and that no process loses one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.recipes.search.problems import BYTES, DROP, SMALL, figures, problem, slow
from tfgreen.errors import InvalidValueError
from tfgreen.recipes.recipe.choices import Choice, Range
from tfgreen.recipes.search.explore import explore
from tfgreen.recipes.search.found import front_of
from tfgreen.recipes.search.front import hypervolume
from tfgreen.recipes.search.problem import Objective, Problem
from tfgreen.recipes.search.sampling.draws import random_draw
from tfgreen.recipes.search.space import Space
from tfgreen.recipes.search.study import Study

ROOT = Path(__file__).parents[3]


def searched(of, trials=20, budget=None, **options):
    study = Study(of, "study", **options)
    return explore(of, study, trials=trials, budget=budget or {}), study.candidates()


def test_no_candidate_is_trained_beyond_what_it_deserves():
    of = problem()
    why, tried = searched(of, trials=25)
    assert why == "" and len(tried) == 25
    assert {one.outcome for one in tried} == {"finished", "dropped", "infeasible"}
    for one in tried:
        if one.outcome == "infeasible":  # before any training
            assert len(one.stages) == 1 and one.figures["size"] > 200 and "max_size is" in one.reason
        if one.outcome == "dropped":
            assert len(one.stages) < 3 and one.reason == "others promise more"
    finished = [one for one in tried if one.outcome == "finished"]
    assert [one.number for one in tried] == list(range(25))
    assert all(len(one.stages) == 3 for one in finished)
    assert all(one.figures["accuracy"] >= 0.9 for one in front_of(of, tried))


def test_one_seed_gives_one_search_even_if_it_goes_on_later(tmp_path):
    calls = []

    def interrupted(settings, stage):
        calls.append(stage)
        if len(calls) in (3, 12, 17):
            raise KeyboardInterrupt
        return figures(settings, stage)

    whole = searched(problem(), 14)[1]
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            searched(problem(evaluate=interrupted), 14, storage=tmp_path / "journal")
    parts = searched(problem(), 14, storage=tmp_path / "journal")[1]
    assert [(one.settings, len(one.stages)) for one in whole] == [(one.settings, len(one.stages)) for one in parts]
    assert [one.settings for one in searched(problem(), 14, seed=1)[1]] != [one.settings for one in whole]


def test_candidates_to_begin_with_are_tried_first_and_to_the_end():
    start = ({"width": 0.15, "quantization": "float32"}, {"width": 0.2, "quantization": "float32"})
    tried = searched(problem(start=start), 3)[1]
    assert [dict(one.settings) for one in tried[:2]] == list(start)
    assert [one.outcome for one in tried[:2]] == ["finished", "finished"]


def test_a_small_space_is_tried_once_and_no_longer():
    of = Problem(
        space=Space({"quantization": Choice(tuple(BYTES))}), objectives=(Objective("size"),),
        evaluate=lambda settings, stage: figures({**settings, "width": 1.0}, stage),
    )  # fmt: skip
    why, tried = searched(of)
    assert why == "All candidates of the space are tried."
    assert sorted(one.settings["quantization"] for one in tried) == sorted(BYTES)


def test_what_cannot_be_measured_has_failed_and_the_search_goes_on():
    def refuses(settings, stage):
        if settings["quantization"] == "float16":
            raise InvalidValueError("float16 is not for this model.")
        return {**figures(settings, stage), **({"size": float("nan")} if settings["width"] > 0.9 else {})}

    tried = searched(problem(bounds=(), evaluate=refuses), 15)[1]
    assert len(tried) == 15
    for one in tried:
        refused = one.settings["quantization"] == "float16"
        assert (one.outcome == "failed") == (refused or one.settings["width"] > 0.9)
        assert not refused or one.reason == "float16 is not for this model."


def test_a_bug_is_raised_and_its_candidate_stays_in_line():
    def buggy(settings, stage):
        raise ZeroDivisionError

    of, storage = problem(), None
    study = Study(problem(evaluate=buggy), "study", storage=storage)
    with pytest.raises(ZeroDivisionError):
        explore(problem(evaluate=buggy), study, trials=3, budget={})
    assert study.candidates() == [] and study.is_waiting()
    assert explore(of, study, trials=3, budget={}) == "" and len(study.candidates()) == 3


def test_a_spent_budget_ends_the_search_and_more_of_it_goes_on(tmp_path):
    of = problem(bounds=(DROP,))
    study = Study(of, "study", storage=tmp_path / "journal")
    why = explore(of, study, trials=20, budget={"max_epochs": 9})
    assert why.startswith("max_trainings of the search, 9 epochs, ")
    assert 6 < sum(stage.epochs for stage in study.stages()) <= 9
    why, tried = searched(of, 20, {"max_epochs": 100}, storage=tmp_path / "journal")
    assert why == "" and len(tried) == 20


def test_bounds_that_nothing_meets_end_with_no_front_and_no_training():
    tried = searched(problem(bounds=(SMALL.__class__("max_size", "size", 5, unit="B"),)), 10)[1]
    assert {one.outcome for one in tried} == {"infeasible"} and not any(one.stages[-1].epochs for one in tried)


@pytest.mark.slow
def test_a_killed_process_loses_no_candidate(tmp_path):
    path = tmp_path / "journal"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.recipes.search.problems", str(path), "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as other:
        seen = [other.stdout.readline() for _ in range(2)]
        os.kill(other.pid, signal.SIGKILL)
    of = problem(evaluate=slow)
    study = Study(of, "study", storage=path)
    assert explore(of, study, trials=8, budget={}) == ""
    tried = study.candidates()
    assert len(tried) == 8 and not study.running()
    assert float(seen[-1].split()[0]) in [one.settings["width"] for one in tried]
    assert len({tuple(one.settings.items()) for one in tried}) == 8


@pytest.mark.slow
def test_two_processes_share_the_candidates(tmp_path):
    path = tmp_path / "journal"
    command = [sys.executable, "-m", "tests.recipes.search.problems", str(path), "10"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"stdout": subprocess.PIPE, "text": True, "env": environment, "cwd": ROOT}
    others = [subprocess.Popen(command, **options) for _ in range(2)]
    outputs = [other.communicate(timeout=60)[0] for other in others]
    assert [other.returncode for other in others] == [0, 0]
    tried = Study(problem(), "study", storage=path).candidates()
    assert len(tried) == 10 and len({tuple(one.settings.items()) for one in tried}) == 10
    done = [output.splitlines() for output in outputs]  # a candidate at a stage each
    assert all(done) and not set(done[0]) & set(done[1])


def test_no_candidate_is_tried_twice_while_there_are_others():
    of = Problem(
        space=Space({"x": Range(1, 30)}), objectives=(Objective("x"),), evaluate=lambda settings, stage: dict(settings)
    )
    why, tried = searched(of, trials=40)
    assert why == "All candidates of the space are tried."
    assert sorted(one.settings["x"] for one in tried) == list(range(1, 31))


@pytest.mark.parametrize("seed", range(3))
def test_a_search_finds_more_than_chance_with_as_many_epochs(seed):
    def evaluate(settings, stage):
        cost = 1 - np.exp(-3 * settings["width"])
        wrong = abs(np.log10(settings["rate"]) + 3) / 2 + (1 - stage / 2) * 0.3
        return {"accuracy": cost - 0.3 * wrong - 0.1 * (settings["kind"] == "b"), "size": settings["width"]}

    space = {"width": Range(0.05, 1.0), "rate": Range(1e-5, 1e-1, log=True), "kind": Choice(("a", "b", "c"))}
    of = Problem(
        space=Space(space), objectives=(Objective("accuracy", True), Objective("size")), evaluate=evaluate, stages=3,
        epochs=lambda settings, stage: (0, 1, 9)[stage], reference={"accuracy": 0.95, "size": 1.0},
    )  # fmt: skip

    def volume(figures):
        return hypervolume(np.array([of.costs(one) for one in figures]), np.array([0.0, 1.0]))

    found = searched(of, 60, {"max_epochs": 180}, seed=seed)[1]
    rng = np.random.default_rng(seed)
    at_random = [evaluate(of.space.settings(random_draw(of.space, rng)), 2) for _ in range(20)]
    assert volume([one.figures for one in found if one.outcome == "finished"]) > volume(at_random)
