"""The server's side of a training, whatever brings the updates: decode, refuse, aggregate, publish, evaluate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfgreen.energy.meter import EnergyMeter
from tfgreen.errors import InvalidValueError
from tfgreen.federated.account import ClientRound, Round, total
from tfgreen.federated.aggregation import PLAIN, Broadcast, Reply, average, outliers
from tfgreen.federated.arguments import checked_metrics
from tfgreen.federated.coding.weight_coding import is_float
from tfgreen.federated.config import FederatedConfig
from tfgreen.federated.flower import FlowerStrategy
from tfgreen.federated.local_model import ClientState, LocalModel

# How TensorFlow begins an error, before it says what is wrong.
_WHERE = ("Graph execution error", "Detected at node", "<stack traces unavailable>", "File \"")


@dataclasses.dataclass(frozen=True)
class Arrival:
    """What came back from a client that was asked to train; ``update`` is None where nothing did.

    ``metrics`` are what strategies of Flower's are to know, beside the number of samples. ``answered`` says that the
    client told how it went, of itself.
    """

    client: int
    samples: int
    bytes_down: int
    update: bytes | None
    joules: float | None = None
    co2e_kg: float | None = None
    refused: str = ""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    node: int = 0
    answered: bool = True


def raised_reason(error: Exception) -> str:
    """What a client raised, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(_WHERE)] or lines
    return f"it raised {': '.join([type(error).__name__, *told[:1]])}"


class Rounds:
    """The weights of the server, and what it does with the updates of a round.

    Args:
        local: The model.
        config: Of the codecs, and of what is refused.
        evaluation: The pair to evaluate on, or a function from the model to metrics.
        flower: The strategy that aggregates; None averages by samples.
    """

    def __init__(
        self, local: LocalModel, config: FederatedConfig, evaluation: Any, flower: FlowerStrategy | None
    ) -> None:
        self._local, self._config, self._evaluation, self._flower = local, config, evaluation, flower
        self._names = local.names
        self.broadcast = Broadcast(dict(zip(self._names, local.shared())), config.downlink)
        self._meter = EnergyMeter(region=config.region)
        self.energy_source = "unavailable"

    def finish(self, number: int, arrivals: Sequence[Arrival], clients: Sequence[ClientState]) -> Round:
        """Take what arrived into the weights; ``clients`` are those whose statistics the evaluation uses."""
        with self._meter:
            replies, refused = self._decoded(arrivals)
            refused |= self._aggregated(number, replies)
            metrics = self._metrics(clients)
        reading = self._meter.reading
        self.energy_source = reading.source
        parts = []
        for each in arrivals:
            sent = 0 if each.update is None else len(each.update)
            reason = refused.get(each.client, "")
            took = (each.samples, each.bytes_down, sent, each.joules)
            parts.append(ClientRound(each.client, *took, refused=reason, answered=each.answered))
        co2e = total([*(each.co2e_kg for each in arrivals if each.answered), reading.co2e_kg])
        return Round(number, tuple(parts), reading.joules, co2e, metrics)

    def _decoded(self, arrivals: Sequence[Arrival]) -> tuple[list[Reply], dict[int, str]]:
        """The weights that arrived, and client -> why nothing of it is used."""
        replies, refused = [], {}
        for each in arrivals:
            if each.refused or each.update is None:
                refused[each.client] = each.refused or "nothing arrived"
                continue
            try:
                weights = (self._config.codec or PLAIN).decode(each.update, self.broadcast.weights)
            except (InvalidValueError, TypeError) as error:
                refused[each.client] = str(error)
                continue
            moved = self.broadcast.moved(list(weights.values()))
            replies.append(Reply(each.client, each.samples, moved, each.metrics, each.node))
        return replies, refused

    def _aggregated(self, number: int, replies: list[Reply]) -> dict[int, str]:
        """Take the replies into the server's weights; client -> why its one was refused."""
        most = self._config.max_update_ratio
        why = {} if most is None else outliers(self.broadcast.own, replies, self._names, most)
        used = [reply for reply in replies if reply.client not in why]
        if used:
            new = average(used) if self._flower is None else self._flower.aggregated(number, used)
            self.broadcast.publish(self._within(new, used))
            self._local.publish(list(self.broadcast.weights.values()))
        return why

    def _within(self, new: Sequence[np.ndarray], replies: Sequence[Reply]) -> list[np.ndarray]:
        """Statistics and ranges between the least and the most that clients have, whatever a strategy makes of them.

        A server's optimizer would carry on their changes, and make a variance negative or a range too wide.
        """
        found = []
        for place, (weight, trained) in enumerate(zip(new, self._local.trained)):
            if not trained and is_float(weight):
                values = [reply.weights[place] for reply in replies]
                weight = np.clip(weight, np.minimum.reduce(values), np.maximum.reduce(values))
            found.append(np.asarray(weight))  # of scalars NumPy makes numbers
        return found

    def _metrics(self, clients: Sequence[ClientState]) -> dict[str, float]:
        if self._evaluation is None:
            return {}
        states: list[ClientState | None] = [None]
        if self._local.keeps_statistics:
            states = [state for state in clients if state.statistics is not None] or [None]
        found = []
        for state in states:
            self._local.load(list(self.broadcast.weights.values()), state)
            if callable(self._evaluation):
                found.append(checked_metrics(self._evaluation(self._local.model)))
            else:
                found.append(self._local.evaluate(*self._evaluation))
        return {name: float(np.mean([metrics[name] for metrics in found])) for name in found[0]}
