"""FederatedConfig: its fields are the options of simulate."""

from __future__ import annotations

import dataclasses
import json

import pytest

import tfgreen as tg
from tfgreen.federated.config import FederatedConfig, FederatedOptions


def test_the_options_are_the_fields_with_their_types():
    fields = {field.name: field.type for field in dataclasses.fields(FederatedConfig)}
    assert {name: reference.__forward_arg__ for name, reference in FederatedOptions.__annotations__.items()} == fields


def test_it_comes_back_from_json():
    config = FederatedConfig(clients=3, rounds=2, codec=tg.UpdateCodec(top_k=0.1), downlink=None)
    assert tg.Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "options", [{"rounds": 0}, {"epochs": 0}, {"statistics": "mine"}, {"max_update_ratio": 1}, {"seed": -1}], ids=str
)
def test_settings_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FederatedConfig(**{"clients": 3, "rounds": 2, **options})
