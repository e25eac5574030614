"""FederatedConfig: how many clients train for how long, and what travels between them and the server."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypedDict

from tfgreen.checks import check_instance, check_integer, check_number, check_option
from tfgreen.config import Config
from tfgreen.energy.carbon.grid import grid_intensity
from tfgreen.errors import invalid_value
from tfgreen.federated.coding.codec import UpdateCodec


@dataclasses.dataclass(frozen=True)
class FederatedConfig(Config):
    """Settings of :func:`tg.federated.simulate`.

    Args:
        clients: How many there are; they are numbered from 0.
        rounds: How often the server gathers updates.
        clients_per_round: How many train in a round, drawn at random; None for all. A strategy of Flower's draws its
            own.
        epochs: Passes of a client over its data in a round.
        batch_size: Of the training on a client.
        codec: How a client's update is coded; None sends the weights as they are.
        downlink: The same for what the server sends. A client gets the updates since the round it knows, or the exact
            weights where these are fewer bytes.
        statistics: Of BatchNormalization: ``"local"`` keeps moving means and variances at each client (SiloBN; gamma
            and beta are shared), ``"shared"`` averages them too.
        max_update_ratio: An update whose norm is more than so many times the median of its round's is refused, from
            three updates on; None to take any.
        seed: Of the initial weights, of the draws of clients, and of each client's order of samples and dropout.
        region: For CO2e, as for :class:`tg.EnergyMeter`.

    Raises:
        ValueError: A setting is out of its range, fewer clients than ``clients_per_round`` exist, or the region is not
            known.
        TypeError: A setting is of the wrong type.

    Example:
        >>> import tfgreen as tg
        >>> tg.federated.FederatedConfig(clients=10, rounds=20, codec=tg.UpdateCodec(top_k=0.1)).codec.top_k
        0.1
    """

    shown_in = "tg.federated"

    clients: int
    rounds: int
    clients_per_round: int | None = None
    epochs: int = 1
    batch_size: int = 32
    codec: UpdateCodec | None = UpdateCodec()
    downlink: UpdateCodec | None = UpdateCodec()
    statistics: Literal["local", "shared"] = "local"
    max_update_ratio: float | None = 10.0
    seed: int = 0
    region: str | None = None

    def __post_init__(self) -> None:
        for name in ("clients", "rounds", "epochs", "batch_size"):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("clients_per_round", self.clients_per_round, minimum=1, optional=True)
        if self.clients_per_round is not None and self.clients_per_round > self.clients:
            fix = "Set clients_per_round to None to have all of them train."
            raise invalid_value(
                "clients_per_round", expected=f"at most the {self.clients} clients", received=self.clients_per_round,
                fix=fix,
            )  # fmt: skip
        for name in ("codec", "downlink"):
            check_instance(name, getattr(self, name), (UpdateCodec, type(None)), "a tg.UpdateCodec or None")
        check_option("statistics", self.statistics, ("local", "shared"))
        check_number("max_update_ratio", self.max_update_ratio, above=1, optional=True)
        check_integer("seed", self.seed, minimum=0, maximum=2**32 - 1)
        if self.region is not None:
            grid_intensity(self.region)


def settings_of_clients(config: FederatedConfig, predictions: bool) -> str:
    """What clients and server must agree on, in words; ``predictions`` says that they share these and no weights."""
    names = ("codec", "epochs", "batch_size", "statistics", "seed")
    what = "predictions on public_data" if predictions else "weights"
    return ", ".join([f"shared: {what}", *(f"{name}={getattr(config, name)}" for name in names)])


class FederatedOptions(TypedDict, total=False):
    """The fields of :class:`FederatedConfig` as keyword arguments."""

    clients: int
    rounds: int
    clients_per_round: int | None
    epochs: int
    batch_size: int
    codec: UpdateCodec | None
    downlink: UpdateCodec | None
    statistics: Literal["local", "shared"]
    max_update_ratio: float | None
    seed: int
    region: str | None
