"""A study that processes share."""

from __future__ import annotations

import pytest

from tests.recipes.search.problems import problem
from tfgreen.recipes.search import study as studies
from tfgreen.recipes.search.problem import Stage
from tfgreen.recipes.search.study import Study


@pytest.fixture
def two(tmp_path):
    """Two views of one study, the second as of a process on another machine."""
    one, other = (Study(problem(), "study", storage=tmp_path / "journal") for _ in range(2))
    other._me = {**other._me, "machine": "elsewhere"}
    return one, other


def asked(study, most=5):
    assert study.is_waiting() or study.put_in_line(most)
    return study.ask(most)


def test_the_trial_of_another_machine_is_put_back_once_its_count_stands_still(two, monkeypatch):
    here, there = two
    trial = asked(there)
    here.revive()
    assert len(here.running()) == 1
    trial.set_user_attr("beat", 1)
    monkeypatch.setattr(studies, "STALE", 0.0)
    here.revive()  # the count has moved
    assert len(here.running()) == 1
    here.revive()
    assert not here.running() and here.is_waiting()
    again = asked(here)
    assert again.params == trial.params and again.user_attrs["lost"] == 1


def test_two_processes_put_a_trial_back_once(two):
    here, there = two
    trial = asked(there)
    for study in (here, there):
        study.put_back(trial.number, trial.params, trial.user_attrs, died=True)
    assert asked(here).params == trial.params and not here.is_waiting()


def test_a_candidate_on_which_processes_end_counts_as_failed_at_last(two):
    here, there = two
    for _ in range(3):
        trial = asked(there)
        assert not there.lost_too_often(trial)
        here.put_back(trial.number, trial.params, trial.user_attrs, died=True)
    assert there.lost_too_often(asked(there))


def test_no_more_trials_than_asked_for(two):
    here, there = two
    assert asked(here, 2) is not None and asked(there, 2) is not None
    assert not here.put_in_line(2) and len(here.running()) == 2


def test_two_processes_that_choose_the_same_try_it_once(two):
    here, there = two
    assert here.put_in_line(5) and there.put_in_line(5)
    assert here.ask(5) is not None and there.ask(5) is None


def test_a_candidate_that_goes_on_is_one_candidate_with_the_stages_of_both_trials(two):
    here, there = two
    first = asked(here, 1)
    stages = [Stage({"accuracy": 0.5, "size": 9.0}, 0.0, 1.0)]
    here.record(first, stages)
    here.finish(first, "dropped", "others promise more", [-0.5, 9.0], {})
    assert there.put_in_line(1) and here.put_in_line(1)
    second = there.ask(1)
    assert here.ask(1) is None and there.earlier_stages(second) == stages
    there.put_back(second.number, second.params, second.user_attrs, died=True)
    again = here.ask(1)
    assert here.earlier_stages(again) == stages
    more = [Stage({"accuracy": 0.8, "size": 9.0}, 1.0, 2.0, 1)]
    here.record(again, more)
    here.finish(again, "dropped", "others promise more", [-0.8, 9.0], {})
    (one,) = there.candidates()
    assert one.number == first.number and list(one.stages) == stages + more and one.last_trial == again.number
    assert there.stages() == stages + more


def test_a_trial_that_another_process_took_over_is_finished_by_that(two):
    here, there = two
    trial = asked(there)
    here.put_back(trial.number, trial.params, trial.user_attrs, died=True)
    with there.beating(trial):
        there.finish(trial, "finished", "", [0.0, 0.0], {})
    assert here.candidates() == []
    again = asked(here)
    here.finish(again, "finished", "", [0.0, 0.0], {"max_size": -0.5})
    assert [one.violations for one in there.candidates()] == [{"max_size": -0.5}]
