"""A candidate, and what it came to."""

from __future__ import annotations

import json

from tfgreen.recipes.search.candidate import Candidate
from tfgreen.recipes.search.problem import Stage


def test_only_a_finished_candidate_within_its_bounds_is_feasible():
    stages = (Stage({"size": 5.0}, 0, 1), Stage({"size": 4.0}, 1, 2))
    fits = Candidate(0, {"rate": 0.1}, "finished", "", stages, {"max_size": -0.5, "max_drop": 0.0})
    assert fits.is_feasible and fits.excess == 0 and fits.figures == {"size": 4.0}
    assert not Candidate(0, {}, "dropped", "", stages, {"max_size": -0.5}).is_feasible
    beyond = Candidate(0, {}, "finished", "", stages, {"a": 0.5, "b": 0.25, "c": -9.0})
    assert not beyond.is_feasible and beyond.excess == 0.75
    failed = Candidate(3, {}, "failed", "it has no size", (), {})
    assert failed.figures == {} and not failed.is_feasible


def test_it_is_plain_values_and_a_table_in_a_notebook():
    one = Candidate(2, {"rate": 0.1}, "finished", "", (Stage({"size": 5.0}, 0, 1),), {})
    told = json.loads(json.dumps(one.to_dict()))
    assert told["figures"] == {"size": 5.0} and told["settings"] == {"rate": 0.1} and told["outcome"] == "finished"
    assert "<table" in one._repr_html_()
