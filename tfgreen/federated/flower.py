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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfgreen.errors import invalid_state, invalid_value
from tfgreen.federated.aggregation import Reply, average
from tfgreen.federated.coding.weight_coding import is_float

PROXIMAL = "proximal-mu"  # what FedProx tells its clients
TRAIN_LOSS = "train_loss"  # what QFedAvg wants to know of them
_KNOWN = {"server-round", PROXIMAL}
_EXAMPLES = "num-examples"


def flower_app(module: str = "app") -> Any:
    """The module ``flwr.app``, or another of Flower's; an error that says what to install without it."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        return importlib.import_module(f"flwr.{module}")
    except ImportError as error:
        sentence = f"Flower cannot be imported ({error})."
        raise invalid_state(sentence, "Run: pip install 'tfgreen[federated]' (Python >= 3.11).") from error


class FlowerStrategy:
    """A strategy of ``flwr.serverapp.strategy``.

    Args:
        strategy: FedAvg, FedAdam, FedMedian, Krum, ... It is used up by one run, as some keep momenta.
        nodes: The clients that there are, by their numbers at Flower.
        seed: For its draws.
        asks: How often it may ask which clients there are, in one round, before it waits for more than there are;
            it does so once a second.
        runs: Whether a federation of Flower's is running; else its messages are made without one.
    """

    def __init__(
        self, strategy: Any, nodes: Callable[[], Iterable[int]], seed: int, asks: int = 4, runs: bool = False
    ) -> None:
        self._app = flower_app()
        wanted = max(int(getattr(strategy, name, 0) or 0) for name in ("min_available_nodes", "min_train_nodes"))
        self._strategy, self._nodes, self._seed, self._runs = strategy, _Nodes(nodes, asks, wanted), seed, runs
        self._messages: dict[int, Any] = {}

    def drawn(self, number: int, weights: Sequence[np.ndarray]) -> dict[int, Mapping[str, Any]]:
        """The clients that the strategy wants to train in a round, ascending, and what it tells each."""
        arrays = self._app.ArrayRecord(float_arrays(weights))
        with self._running(number):
            found = self._strategy.configure_train(number, arrays, self._app.ConfigRecord(), self._nodes)
            self._messages = {message.metadata.dst_node_id: message for message in found}
        configs: dict[int, Mapping[str, Any]] = {}
        for node in sorted(self._messages):
            records = self._messages[node].content.config_records.values()
            configs[node] = {name: value for config in records for name, value in config.items()}
        return configs

    def check_asked(self, configs: Mapping[int, Mapping[str, Any]]) -> None:
        """Refuse a strategy that tells its clients what those of simulate would not follow."""
        for config in configs.values():
            wanted = sorted(name for name, value in config.items() if name not in _KNOWN and value)
            if wanted:
                name = type(self._strategy).__name__
                sentence = f"{name} wants its clients to use {', '.join(wanted)}, which those of simulate do not."
                fix = "Run tg.federated.server, and tg.federated.client(..., mods=[...]) with the mod that does."
                raise invalid_state(sentence, fix)

    def aggregated(self, number: int, replies: Sequence[Reply]) -> list[np.ndarray]:
        """The weights that the strategy makes of those of the clients; what is no float is averaged as without it."""
        app, messages = self._app, []
        with self._running(number):
            for reply in replies:
                arrays = app.ArrayRecord(float_arrays(reply.weights))
                metrics = app.MetricRecord({**reply.metrics, _EXAMPLES: reply.samples})
                content = app.RecordDict({"arrays": arrays, "metrics": metrics})
                messages.append(app.Message(content, reply_to=self._messages[reply.node]))
            try:
                record, _ = self._strategy.aggregate_train(number, messages)
            except Exception as error:  # Flower's, and whatever a strategy of the user's raises
                sentence = f"{type(self._strategy).__name__} cannot aggregate {len(replies)} updates: {error}"
                raise invalid_state(sentence) from error
        if record is None:
            sentence = f"{type(self._strategy).__name__} made no weights of {len(replies)} updates."
            raise invalid_state(sentence, "Have more clients train in a round.")
        # Some strategies return float64 for float32, twice the bytes.
        return with_floats(average(replies), record.to_numpy_ndarrays())

    @contextlib.contextmanager
    def _running(self, number: int) -> Iterator[None]:
        """Draw by our seed; without a federation let Flower make messages, and keep its log to warnings.

        All is as it was afterwards.
        """
        drawing = random.getstate()
        try:
            random.seed(self._seed * 1_000_003 + number)
            self._nodes.asked = 0
            with contextlib.nullcontext() if self._runs else _no_federation():
                yield
        finally:
            random.setstate(drawing)


@contextlib.contextmanager
def _no_federation() -> Iterator[None]:
    identity = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
    known = identity._task_id, identity._run_id, identity._node_id
    log = logging.getLogger("flwr")
    level = log.level
    try:
        identity.task_id, identity.run_id, identity.node_id = 1, 1, 0
        log.setLevel(max(level, logging.WARNING))
        yield
    finally:
        identity._task_id, identity._run_id, identity._node_id = known
        log.setLevel(level)


class _Nodes:
    """What a strategy asks of Flower's grid: which nodes there are."""

    def __init__(self, nodes: Callable[[], Iterable[int]], asks: int, wanted: int) -> None:
        self._get, self._asks, self._wanted = nodes, asks, wanted
        self.asked = 0

    def get_node_ids(self) -> list[int]:
        found = list(self._get())
        self.asked += 1
        if self.asked > self._asks:
            expected = f"at least the {self._wanted} that the strategy wants"
            fix = "Lower its min_available_nodes and min_train_nodes, or have more clients."
            raise invalid_value("clients", expected=expected, received=len(found), fix=fix)
        return found


def float_arrays(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The floats, in a dtype that Flower's records hold."""
    found = [weight for weight in weights if is_float(weight)]
    return [weight if weight.itemsize > 2 else weight.astype(np.float32) for weight in found]


def with_floats(weights: Sequence[np.ndarray], floats: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The weights with other floats in their places, in their dtypes."""
    made = iter(floats)
    return [np.asarray(next(made)).astype(w.dtype) if is_float(w) else w for w in weights]
