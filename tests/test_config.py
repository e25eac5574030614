"""Config: plain, frozen, back from JSON; and what every verb promises whose keyword arguments are its fields."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys

import pytest

import tfgreen as tg
from tests import zoo
from tfgreen.config import Config, data_field, resolve_config

# Verb -> an option, a value of it that is not the default, and a name that is nearly that of the option.
VERBS = {
    "prune": ("scope", "global", "scop"),
    "cluster": ("number_of_clusters", 3, "number_of_cluster"),
    "quantize": ("weight_bits", 4, "weight_bit"),
}
DATA = {"quantize": {"calibration_data": zoo.sample("functional")}}  # what a verb cannot do without
every_verb = pytest.mark.parametrize("verb", VERBS)


def config_of(verb: str) -> type[Config]:
    return getattr(tg, f"{verb.capitalize()}Config")


@pytest.mark.parametrize("verb", [*VERBS, "convert"])
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
    data = DATA.get(verb, {})
    results = [
        getattr(tg, verb)(zoo.functional(), config_of(verb)(**{option: value}, **data)),
        getattr(tg, verb)(zoo.functional(), **{option: value}, **data),
        getattr(tg, verb)(zoo.functional(), config_of(verb)(**data), **{option: value}),
    ]
    for result in results:
        transform = result.get_layer("hidden").chains[0].transforms[0]
        assert getattr(transform, {"weight_bits": "bits"}.get(option, option)) == value


@every_verb
def test_a_verb_runs_without_any_setting_but_data(verb):
    assert any(s.done for s in tg.summary(getattr(tg, verb)(zoo.functional(), **DATA.get(verb, {}))).weights)


@dataclasses.dataclass(frozen=True)
class Inner(Config):
    power: int = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(Config):
    inner: Inner = Inner()
    names: tuple[str, ...] = ("a",)
    data: object = data_field()


def test_config_round_trips_through_json_without_its_data():
    config = Outer(inner=Inner(5), names=("x", "y"), data=[1, 2])
    restored = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert restored == config
    assert isinstance(restored, Outer) and restored.data is None


def test_config_names_an_unknown_class_or_field():
    with pytest.raises(ValueError, match="Nothing"):
        Config.from_dict({"class_name": "Nothing", "config": {}})
    with pytest.raises(ValueError, match=r"\['pover'\]"):
        Inner.from_dict({"class_name": "Inner", "config": {"pover": 2}})
    with pytest.raises(ValueError, match="class_name"):
        Inner.from_dict({"power": 2})


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Inner().power = 4


def test_only_plain_values_go_into_a_dict():
    assert Outer(names=["a", "b"]).to_dict()["config"]["names"] == ["a", "b"]
    with pytest.raises(TypeError, match="names: expected a plain value .*received object"):
        Outer(names=(object(),)).to_dict()


def test_fields_come_from_the_config_and_are_overridden_by_options():
    assert resolve_config(Inner, None, {}) == Inner() and resolve_config(Inner, Inner(2), {}) == Inner(2)
    assert resolve_config(Outer, Outer(names=("x",)), {"inner": Inner(2)}) == Outer(inner=Inner(2), names=("x",))
    with pytest.raises(TypeError, match="'pover' is no field of tg.Inner. Did you mean 'power'?"):
        resolve_config(Inner, None, {"pover": 2})
    with pytest.raises(TypeError, match="config: expected a tg.Inner, received Outer"):
        resolve_config(Inner, Outer(), {})


def test_a_misspelled_option_names_the_nearest_wherever_it_is_passed():
    import keras

    import tfgreen as tg

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    calls = {
        "schedule": lambda: tg.PruneConfig(shedule=0.5),
        "calibration_data": lambda: tg.ConvertConfig(calibraton_data=None),
        "weight_bits": lambda: tg.QuantizeConfig(weigth_bits=8),
        "max_drop": lambda: tg.search_precision(model, None, max_dorp=0.1),
        "student_loss_weight": lambda: tg.Distiller(model, model, tg.LogitsDistillation(), student_loss_wieght=0.1),
        "mean_scales": lambda: tg.verify(model, None, None, mean_scale=1),
        "threads": lambda: tg.benchmark(None, thread=2),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f"Did you mean '{name}'"):
            call()
