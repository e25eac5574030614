"""The door to Flower: its strategies draw the clients and aggregate what they send.

A strategy speaks in messages of a running federation. Here it is handed messages that no network carries. Flower counts
its users where ``flower-superlink`` and the like are started, which this does not; should it be imported here first,
that is off unless FLWR_TELEMETRY_ENABLED is set.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.federated.server import Reply, average
from tfgreen.federated.weight_coding import is_float

_ASKED = 4  # times that a strategy may ask which clients there are, in one round, before it waits for more of them
_KNOWN = {"server-round"}  # what a strategy may tell its clients
_EXAMPLES = "num-examples"


def flower_app() -> Any:
    """The module ``flwr.app``; an error that says what to install without it."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        return importlib.import_module("flwr.app")
    except ImportError as error:
        sentence = f"Flower cannot be imported ({error})."
        raise invalid_state(sentence, "Run: pip install 'tfgreen[federated]' (Python >= 3.11).") from error


class FlowerStrategy:
    """A strategy of ``flwr.serverapp.strategy`` for clients that are numbered from 0.

    Args:
        strategy: FedAvg, FedAdam, FedMedian, Krum, ... It is used up by one run, as some keep momenta.
        clients: How many clients there are.
        seed: For its draws.
    """

    def __init__(self, strategy: Any, clients: int, seed: int) -> None:
        if not callable(getattr(strategy, "configure_train", None)):
            expected = "a strategy of flwr.serverapp.strategy, such as FedAvg()"
            raise invalid_type("strategy", expected=expected, received=strategy)
        self._app = flower_app()
        self._strategy, self._grid, self._seed = strategy, _Clients(clients), seed
        self._messages: dict[int, Any] = {}

    def drawn(self, number: int, weights: Sequence[np.ndarray]) -> list[int]:
        """The clients that the strategy wants to train in a round."""
        arrays = self._app.ArrayRecord(_floats(weights))
        with self._running(number):
            found = self._strategy.configure_train(number, arrays, self._app.ConfigRecord(), self._grid)
            self._messages = {message.metadata.dst_node_id - 1: message for message in found}
        for message in self._messages.values():
            for config in message.content.config_records.values():
                wanted = sorted(name for name, value in config.items() if name not in _KNOWN and value)
                if wanted:
                    name = type(self._strategy).__name__
                    sentence = f"{name} wants its clients to use {', '.join(wanted)}, which those of simulate do not."
                    raise invalid_state(sentence, "Take FedAvg or another strategy that asks for nothing.")
        return sorted(self._messages)

    def aggregated(self, number: int, replies: Sequence[Reply]) -> list[np.ndarray]:
        """The weights that the strategy makes of those of the clients; what is no float is averaged as without it."""
        app, messages = self._app, []
        with self._running(number):
            for reply in replies:
                arrays = app.ArrayRecord(_floats(reply.weights))
                metrics = app.MetricRecord({_EXAMPLES: reply.samples})
                content = app.RecordDict({"arrays": arrays, "metrics": metrics})
                messages.append(app.Message(content, reply_to=self._messages[reply.client]))
            record, _ = self._strategy.aggregate_train(number, messages)
        if record is None:
            sentence = f"{type(self._strategy).__name__} made no weights of {len(replies)} updates."
            raise invalid_state(sentence, "Have more clients train in a round.")
        found, made = average(replies), iter(record.to_numpy_ndarrays())
        # Some strategies return float64 for float32, twice the bytes.
        return [np.asarray(next(made)).astype(w.dtype) if is_float(w) else w for w in found]

    @contextlib.contextmanager
    def _running(self, number: int) -> Iterator[None]:
        """Let Flower make messages, draw by our seed, and keep its log to warnings; all is as it was afterwards."""
        identity = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
        known = identity._task_id, identity._run_id, identity._node_id
        log, drawing = logging.getLogger("flwr"), random.getstate()
        level = log.level
        try:
            identity.task_id, identity.run_id, identity.node_id = 1, 1, 0
            log.setLevel(max(level, logging.WARNING))
            random.seed(self._seed * 1_000_003 + number)
            self._grid.asked = 0
            yield
        finally:
            identity.task_id, identity.run_id, identity.node_id = known
            log.setLevel(level)
            random.setstate(drawing)


class _Clients:
    """What a strategy asks of Flower's grid: which nodes there are. Flower's numbers begin at 1."""

    def __init__(self, clients: int) -> None:
        self._clients = clients
        self.asked = 0

    def get_node_ids(self) -> list[int]:
        self.asked += 1
        if self.asked > _ASKED:
            expected = "as many clients as the strategy wants (min_available_nodes, min_train_nodes)"
            raise invalid_value("clients", expected=expected, received=self._clients)
        return list(range(1, self._clients + 1))


def _floats(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The floats, in a dtype that Flower's records hold."""
    found = [weight for weight in weights if is_float(weight)]
    return [weight if weight.itemsize > 2 else weight.astype(np.float32) for weight in found]
