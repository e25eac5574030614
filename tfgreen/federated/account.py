"""FederatedRun: what a federated training came to, in accuracy, bytes and joules, by round and by client."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from tfgreen.errors import invalid_value
from tfgreen.tables import TableResult, counted
from tfgreen.typing import PlainDict

if TYPE_CHECKING:
    import keras


ACCOUNT = ("bytes_up", "bytes_down", "joules", "updates")  # what a history has besides metrics


@dataclasses.dataclass(frozen=True)
class ClientRound:
    """What one client did in one round.

    Attributes:
        client: Its number.
        samples: That it trained on.
        bytes_down, bytes_up: That it got and sent.
        joules: Of its training and of coding its update, or None where there is no reading.
        refused: Why its update was not used, or "".
        answered: False of one that died or was late: what it took is not known, and not counted.
    """

    client: int
    samples: int
    bytes_down: int
    bytes_up: int
    joules: float | None
    refused: str
    answered: bool = True


@dataclasses.dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        number: From 1.
        clients: That were drawn, in order.
        server_joules: Of decoding, aggregating and evaluating, or None where there is no reading.
        co2e_kg: Of clients and server, or None.
        metrics: Of the shared model after the round, by name.
    """

    number: int
    clients: tuple[ClientRound, ...]
    server_joules: float | None
    co2e_kg: float | None
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True, repr=False)
class FederatedRun(TableResult):
    """What a federated training came to; prints as a table of its rounds.

    Attributes:
        model: The shared model at the end, compiled as ``model_fn`` did.
        rounds: What each round took and reached.
        energy_source: Where the joules come from, as in :class:`tg.EnergyReading`.
        notes: What to know about the result.
    """

    model: keras.Model = dataclasses.field(compare=False)
    rounds: tuple[Round, ...]
    energy_source: str
    notes: tuple[str, ...]
    _client_model: Callable[[int], keras.Model] = dataclasses.field(compare=False)

    _headings = ("round", "clients", "bytes up", "bytes down", "energy", "metrics")

    @property
    def bytes_up(self) -> int:
        """Bytes that clients sent, in all."""
        return sum(self.history["bytes_up"])

    @property
    def bytes_down(self) -> int:
        """Bytes that clients got, in all."""
        return sum(self.history["bytes_down"])

    @property
    def joules(self) -> float | None:
        """Of the server and of clients that answered, or None where a reading is missing."""
        return total(self.history["joules"])

    @property
    def co2e_kg(self) -> float | None:
        """Kilograms of CO2 equivalent, or None."""
        return total(each.co2e_kg for each in self.rounds)

    @property
    def refused(self) -> tuple[str, ...]:
        """A sentence for each update that was not used: its round, its client and why."""
        parts = [(each, client) for each in self.rounds for client in each.clients if client.refused]
        return tuple(f"round {each.number}, client {client.client}: {client.refused}" for each, client in parts)

    @property
    def history(self) -> dict[str, list]:
        """One value per round by name, as ``keras.callbacks.History.history``: ``bytes_up``, ``bytes_down``, ``joules``
        (clients and server), ``updates`` (that were used), and the metrics."""
        found: dict[str, list] = {
            "bytes_up": [sum(c.bytes_up for c in each.clients) for each in self.rounds],
            "bytes_down": [sum(c.bytes_down for c in each.clients) for each in self.rounds],
            "joules": [
                total([*(c.joules for c in each.clients if c.answered), each.server_joules]) for each in self.rounds
            ],
            "updates": [sum(not c.refused for c in each.clients) for each in self.rounds],
        }
        for name in dict.fromkeys(name for each in self.rounds for name in each.metrics):
            found[name] = [each.metrics.get(name) for each in self.rounds]
        return found

    def client_model(self, client: int) -> keras.Model:
        """The shared model with what only this client has: its statistics of BatchNormalization.

        Raises:
            ValueError: There is no such client, or it never trained.
        """
        return self._client_model(client)

    def plot(self, metric: str = "accuracy") -> PlainDict:
        """The metric over the megabytes that were sent until then, up and down, as plain data for ``tg.Curve``.

        Raises:
            ValueError: There is no such metric.
        """
        history = self.history
        known = [name for name in history if name not in ACCOUNT]
        if metric not in known:
            fix = "" if known else "Pass evaluation_data to tg.federated.simulate."
            raise invalid_value("metric", expected=f"one of {known}", received=metric, fix=fix)
        series = {}
        for name, key in (("uplink", "bytes_up"), ("downlink", "bytes_down")):
            sent = itertools.accumulate(history[key])
            series[name] = [(count / 1e6, value) for count, value in zip(sent, history[metric])]
        return {"title": f"{metric} over bytes", "x_label": "sent (MB)", "y_label": metric, "series": series}

    def _headline(self) -> str:
        up, down = self.bytes_up / 1e6, self.bytes_down / 1e6
        energy = "no energy reading" if self.joules is None else f"{self.joules:.3g} J ({self.energy_source})"
        return f"{counted(len(self.rounds), 'round')}, {up:.3g} MB up, {down:.3g} MB down, {energy}"

    def _rows(self) -> list[tuple[str, ...]]:
        history, rows = self.history, []
        for i, each in enumerate(self.rounds):
            joules = "-" if history["joules"][i] is None else f"{history['joules'][i]:.3g} J"
            metrics = ", ".join(f"{name} {value:.4g}" for name, value in each.metrics.items())
            used = f"{history['updates'][i]} of {len(each.clients)}"
            sent = (f"{history[name][i]:,}" for name in ("bytes_up", "bytes_down"))
            rows.append((str(each.number), used, *sent, joules, metrics))
        return rows

    def _remarks(self) -> list[str]:
        lost = sum(not client.answered for each in self.rounds for client in each.clients)
        uncounted = [f"The energy is without that of {counted(lost, 'training')} of which nothing was heard."]
        return [self._headline(), *self.refused, *self.notes, *(uncounted if lost and self.joules is not None else [])]

    def to_dict(self) -> PlainDict:
        """Plain values: the rounds, the history, and the sums; without the model."""
        sums = {name: getattr(self, name) for name in ("bytes_up", "bytes_down", "joules", "co2e_kg")}
        rounds = [dataclasses.asdict(each) for each in self.rounds]
        return {**sums, "energy_source": self.energy_source, "notes": list(self.notes), "rounds": rounds}


def total(values: Iterable[float | None]) -> float | None:
    """The sum, or None where one is missing."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None
