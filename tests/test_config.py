"""What every verb with a config promises: its fields are the verb's keyword arguments, typed alike."""

from __future__ import annotations

import dataclasses
import inspect
import sys

import pytest

import tfgreen as tg
from tests import zoo
from tfgreen.config import Config

# Verb -> an option, a value of it that is not the default, and a name that is nearly that of the option.
VERBS = {
    "prune": ("scope", "global", "scop"),
    "cluster": ("number_of_clusters", 3, "number_of_cluster"),
}
every_verb = pytest.mark.parametrize("verb", VERBS)


def config_of(verb: str) -> type[Config]:
    return getattr(tg, f"{verb.capitalize()}Config")


@every_verb
def test_the_options_are_the_fields_of_the_config_with_their_types(verb):
    config = config_of(verb)
    options = getattr(sys.modules[config.__module__], config.__name__.replace("Config", "Options"))
    fields = {field.name: field.type for field in dataclasses.fields(config)}
    assert {name: reference.__forward_arg__ for name, reference in options.__annotations__.items()} == fields
    assert list(options.__annotations__) == list(fields) and not options.__required_keys__
    parameters = inspect.signature(getattr(tg, verb)).parameters
    assert parameters["config"].default is None
    assert parameters["options"].annotation == f"Unpack[{options.__name__}]"


@every_verb
def test_an_unknown_option_is_an_error_that_names_the_nearest_field(verb):
    option, _, near = VERBS[verb]
    for arguments in ((), (config_of(verb)(),)):
        with pytest.raises(TypeError, match=f"'{near}' is no field of tg.{config_of(verb).__name__}.*'{option}'"):
            getattr(tg, verb)(zoo.functional(), *arguments, **{near: 1})
    with pytest.raises(TypeError, match=f"'nonsense' is no field.*{option}"):
        getattr(tg, verb)(zoo.functional(), nonsense=1)
    with pytest.raises(TypeError, match=f"config: expected a tg.{config_of(verb).__name__}, received dict"):
        getattr(tg, verb)(zoo.functional(), {})


@every_verb
def test_options_override_the_config(verb):
    option, value, _ = VERBS[verb]
    results = [
        getattr(tg, verb)(zoo.functional(), config_of(verb)(**{option: value})),
        getattr(tg, verb)(zoo.functional(), **{option: value}),
        getattr(tg, verb)(zoo.functional(), config_of(verb)(), **{option: value}),
    ]
    for result in results:
        assert getattr(result.get_layer("hidden").chains[0].transforms[0], option) == value


@every_verb
def test_a_verb_runs_without_any_setting(verb):
    assert any(status.done for status in tg.summary(getattr(tg, verb)(zoo.functional())).weights)
