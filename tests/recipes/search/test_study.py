"""A study that processes share."""

from __future__ import annotations

import pytest

from tests.recipes.search.problems import problem
from tfgreen.recipes.search import study as studies
from tfgreen.recipes.search.study import Study


@pytest.fixture
def two(tmp_path):
    """Two views of one study, the second as of a process on another machine."""
    one, other = (Study(problem(), "study", storage=tmp_path / "journal") for _ in range(2))
    other._me = {**other._me, "machine": "elsewhere"}
    return one, other


def test_the_trial_of_another_machine_is_put_back_once_its_count_stands_still(two, monkeypatch):
    here, there = two
    trial = there.ask(5)
    here.revive()
    assert here.running() == 1
    trial.set_user_attr("beat", 1)
    monkeypatch.setattr(studies, "STALE", 0.0)
    here.revive()  # the count has moved
    assert here.running() == 1
    here.revive()
    assert not here.running() and here.is_waiting()
    again = here.ask(5)
    assert again.params == trial.params and again.user_attrs["lost"] == 1


def test_two_processes_put_a_trial_back_once(two):
    here, there = two
    trial = there.ask(5)
    for study in (here, there):
        study.put_back(trial.number, trial.params, trial.user_attrs, died=True)
    assert here.ask(5).params == trial.params and not here.is_waiting()


def test_a_candidate_on_which_processes_end_counts_as_failed_at_last(two):
    here, there = two
    for _ in range(3):
        trial = there.ask(5)
        assert not there.lost_too_often(trial)
        here.put_back(trial.number, trial.params, trial.user_attrs, died=True)
    assert there.lost_too_often(there.ask(5))


def test_no_more_trials_than_asked_for(two):
    here, there = two
    assert here.ask(2) is not None and there.ask(2) is not None
    assert here.ask(2) is None and here.running() == 2


def test_a_trial_that_another_process_took_over_is_finished_by_that(two):
    here, there = two
    trial = there.ask(5)
    here.put_back(trial.number, trial.params, trial.user_attrs, died=True)
    with there.beating(trial):
        there.finish(trial, "finished", "", [0.0, 0.0], {})
    assert here.candidates() == []
    again = here.ask(5)
    here.finish(again, "finished", "", [0.0, 0.0], {"max_size": -0.5})
    assert [one.violations for one in there.candidates()] == [{"max_size": -0.5}]
