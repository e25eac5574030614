"""What the server does in a round: refuse what cannot be right, average the rest, and say what changed.

Reference: H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017,
arXiv:1602.05629 (FedAvg).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfgreen.federated.coding.codec import UpdateCodec
from tfgreen.federated.coding.weight_coding import is_float
from tfgreen.federated.config import FederatedConfig

PLAIN = UpdateCodec(entropy=None)
_ENOUGH = 3  # updates from which on a median says what is usual


@dataclasses.dataclass(frozen=True)
class Reply:
    """The weights that a client trained, on how many samples, and what else a strategy is to know of it.

    ``node`` is its number at Flower, under which a strategy asked for it.
    """

    client: int
    samples: int
    weights: Sequence[np.ndarray]
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    node: int = 0


def outliers(
    before: Sequence[np.ndarray], replies: Sequence[Reply], names: Sequence[str], most: float
) -> dict[int, str]:
    """Client -> why its update is refused: its norm is more than ``most`` times the median of all."""
    places = [place for place, weight in enumerate(before) if is_float(weight)]
    if len(replies) < _ENOUGH or not places:
        return {}
    norms = np.array([[_distance(before[p], reply.weights[p]) for p in places] for reply in replies])
    whole, found = np.sqrt((norms**2).sum(1)), {}
    usual = float(np.median(whole))
    for number, reply in enumerate(replies):
        if usual > 0 and whole[number] > most * usual:
            ratios = norms[number] / np.maximum(np.median(norms, 0), np.finfo(float).tiny)
            name = names[places[int(np.argmax(np.where(norms[number] > 0, ratios, 0)))]]
            found[reply.client] = (
                f"update: its norm is {whole[number] / usual:.3g} times the median of its round, "
                f"most of all that of weight '{name}'"
            )
    return found


def average(replies: Sequence[Reply]) -> list[np.ndarray]:
    """The mean of floats, weighted by samples; bools by majority, integers from the client with the most samples."""
    shares = np.array([reply.samples for reply in replies], float)
    shares /= shares.sum()
    columns = zip(*(reply.weights for reply in replies))
    return [_mean(column, shares) for column in columns]


def drawn(config: FederatedConfig, number: int, nodes: Sequence[int]) -> dict[int, Mapping[str, float]]:
    """The nodes that train in a round, drawn by the seed, ascending; nothing is asked of them."""
    count = config.clients_per_round or config.clients
    rng = np.random.default_rng((config.seed, number))
    places = sorted(rng.choice(len(nodes), min(count, len(nodes)), replace=False).tolist())
    return {nodes[place]: {} for place in places}


def _mean(column: Sequence[np.ndarray], shares: np.ndarray) -> np.ndarray:
    first = column[0]
    if not is_float(first) and first.dtype != bool:
        return column[int(np.argmax(shares))]
    mean = np.zeros(first.shape)
    for array, share in zip(column, shares):
        mean += share * array.astype(np.float64)
    return mean > 0.5 if first.dtype == bool else np.asarray(mean).astype(first.dtype)


def _moved(own: np.ndarray, sent: np.ndarray, trained: np.ndarray) -> np.ndarray:
    if not is_float(own):
        return trained
    moved = own + (trained - sent)
    return np.where((trained == 0) & (sent != 0), np.zeros_like(moved), moved)  # pruned by the client


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm((b.astype(np.float64) - a.astype(np.float64)).reshape(-1)))


class Broadcast:
    """The weights of the server, those that every client has, and the bytes that bring a client there.

    What the server sends is coded, so that its own weights are finer: what coding leaves out comes with the next
    change, which is coded from what clients have to what the server has.

    Args:
        weights: Those at the start, version 0, by name.
        codec: Of the changes; None sends the weights as they are, each time.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], codec: UpdateCodec | None) -> None:
        self.weights, self.version = dict(weights), 0
        self.own = list(weights.values())
        self._codec = codec
        self._updates: collections.deque[bytes] = collections.deque()
        self._snapshot = b""

    def moved(self, trained: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What a client's weights would be, had it started from those of the server."""
        if self._codec is None:
            return list(trained)
        return [_moved(*each) for each in zip(self.own, self.weights.values(), trained)]

    def publish(self, new: Sequence[np.ndarray]) -> None:
        """Make the next version of the server's weights."""
        self.own = list(new)
        named = dict(zip(self.weights, new))
        if self._codec is None:
            self.weights = named
        else:
            update, _ = self._codec.encode(self.weights, named)
            self.weights = dict(self._codec.decode(update, self.weights))
            self._updates.append(update)
            while sum(map(len, self._updates)) > len(self.whole()):  # nobody is sent more than the weights
                self._updates.popleft()
        self.version += 1
        self._snapshot = b""

    def updates_for(self, version: int | None) -> tuple[int | None, list[bytes]]:
        """What brings a client of a version, or a new one, to the present one.

        Returns:
            The version that the updates start from, and the updates; None, and all weights, where that is less.
        """
        missed = None if version is None else self.version - version
        if missed is not None and 0 <= missed <= len(self._updates):
            updates = list(self._updates)[len(self._updates) - missed :]
            if not updates or sum(map(len, updates)) < len(self.whole()):
                return version, updates
        return (version, []) if missed == 0 else (None, [self.whole()])

    def whole(self) -> bytes:
        """The weights as they are."""
        if not self._snapshot:
            self._snapshot, _ = PLAIN.encode(None, self.weights)
        return self._snapshot
