"""How settings read."""

from __future__ import annotations

from tfgreen.recipes.search.result import in_words


def test_settings_are_a_line():
    settings = {"prune": None, "train.rate": 0.0030000001, "quantize": {}, "cluster": {"number_of_clusters": 8}}
    assert in_words(settings) == "prune off, train.rate 0.003, quantize on, cluster number_of_clusters 8"
