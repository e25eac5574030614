"""ClientApp: what it keeps stays in its context, and what went wrong is said in the words of the simulation."""

from __future__ import annotations

import numpy as np
import pytest

import tfgreen as tg
from tests.federated.test_simulation import data_fn, model_fn, normalized_fn

pytest.importorskip("tests.federated.test_server_app", reason="Flower is not installed", exc_type=ImportError)
from tests.federated.test_server_app import federate  # noqa: E402


def test_a_client_keeps_all_it_needs_in_its_context():
    """Each message may be answered by another process."""
    _, grid = federate(model=normalized_fn, rounds=1)
    state = grid.contexts[11].state
    assert state["tfgreen"]["version"] == 0
    sizes = {name: sum(len(a.data) for a in state[f"tfgreen.{name}"].values()) for name in ("weights", "optimizer")}
    assert sizes["optimizer"] > 1.8 * sizes["weights"] > 0 and state["tfgreen.statistics"] and state["tfgreen.rest"]


def test_what_a_user_gets_wrong_at_a_client_is_said_in_its_words():
    run, _ = federate(data=lambda client: None if client == 1 else data_fn(client))
    assert run.history["updates"] == [2, 2, 2]
    assert "client 1: data of client 1: expected (x, y), received NoneType" in run.refused[0]
    diverged, _ = federate(data=lambda c: (data_fn(c)[0], data_fn(c)[1] * np.float32(np.nan if c == 1 else 1)))
    assert diverged.history["updates"] == [2, 2, 2] and "client 1: weight '" in diverged.refused[0]
    with pytest.raises(TypeError, match="data_fn: expected a function"):
        tg.federated.client(model_fn, 3, clients=2, rounds=1)
