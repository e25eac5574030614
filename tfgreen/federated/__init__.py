"""Federated learning: clients train on data of their own, and share compressed updates of the weights only.

:class:`tg.UpdateCodec` makes few bytes of an update, and :func:`tg.federated.simulate` trains with it in one process,
with an account of bytes and joules. :func:`tg.federated.client` and :func:`tg.federated.server` do the same on many
machines, by Flower. Compression is no protection of what the updates say of the data.

Example:
    >>> import keras, numpy as np, tfgreen as tg
    >>> def model_fn():
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    ...     model.compile("sgd", "mse")
    ...     return model
    >>> def data_fn(client):
    ...     x = np.random.default_rng(client).normal(size=(32, 4)).astype("float32")
    ...     return x, x[:, :3]
    >>> run = tg.federated.simulate(model_fn, data_fn, clients=4, rounds=3, evaluation_data=data_fn(99))
    >>> len(run.history["loss"]), run.history["updates"]
    (3, [4, 4, 4])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfgreen.federated.account import ClientRound as ClientRound
    from tfgreen.federated.account import FederatedRun as FederatedRun
    from tfgreen.federated.account import Round as Round
    from tfgreen.federated.client_app import client as client
    from tfgreen.federated.config import FederatedConfig as FederatedConfig
    from tfgreen.federated.server_app import server as server
    from tfgreen.federated.simulation import simulate as simulate

_PUBLIC = {
    "ClientRound": "tfgreen.federated.account",
    "FederatedRun": "tfgreen.federated.account",
    "Round": "tfgreen.federated.account",
    "FederatedConfig": "tfgreen.federated.config",
    "client": "tfgreen.federated.client_app",
    "server": "tfgreen.federated.server_app",
    "simulate": "tfgreen.federated.simulation",
}

__all__ = list(_PUBLIC)


if not TYPE_CHECKING:  # for which a module with __getattr__ would have every name

    def __getattr__(name: str) -> object:
        # On first use, so that the codec, which is NumPy only, does not import Keras.
        if name not in _PUBLIC:
            raise AttributeError(f"module 'tfgreen.federated' has no attribute '{name}'")
        value = globals()[name] = getattr(importlib.import_module(_PUBLIC[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
