"""Flower's apps without its processes: every message goes from a ServerApp to ClientApps and back, in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tfgreen as tg
from tfgreen.federated.flower import _no_federation, flower_app


class LocalGrid:
    """Nodes 11, 12, ... with partitions 0, 1, ...; ``between`` may change or drop what a client answers."""

    def __init__(self, app: Any, nodes: int, between: Callable[[LocalGrid, int, Any], Any] | None = None) -> None:
        flwr = flower_app()
        self._app, self._between, self.round, self.sent = app, between, 0, []
        self.contexts = {
            11 + n: flwr.Context(1, 11 + n, {"partition-id": n, "num-partitions": nodes}, flwr.RecordDict(), {})
            for n in range(nodes)
        }

    def get_node_ids(self) -> list[int]:
        return list(self.contexts)

    def send_and_receive(self, messages: list[Any], *, timeout: float) -> list[Any]:
        self.round += 1
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            self.sent.append((self.round, node, sum(len(a.data) for a in message.content["arrays"].values())))
            reply = self._app(message, self.contexts[node])
            if self._between is not None:
                reply = self._between(self, node - 11, reply)
            replies += [] if reply is None else [reply]
        return replies[::-1]  # in no order that the nodes have


def run_apps(
    client_app: Any, server_app: Callable[[Callable], Any], nodes: int, between: Callable | None = None
) -> tuple[tg.federated.FederatedRun, LocalGrid]:
    """What ``finished`` gets."""
    found: list = []
    grid = LocalGrid(client_app, nodes, between)
    with _no_federation():
        server_app(found.append)(grid, None)
    return found[0], grid
