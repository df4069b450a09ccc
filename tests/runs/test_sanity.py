"""Options without effect: which they are, that they have none, and that a run says so."""

import dataclasses

import pytest

from jaxrl import agents, envs
from jaxrl.envs import probes
from jaxrl.networks import MLP
from jaxrl.runs import sanity
from jaxrl.runs.building import build
from jaxrl.runs.config import Sweep
from jaxrl.training.options import CONTEXTS, alternative, parameters, without_effect
from jaxrl.training.programs import PARTS, Programs
from jaxrl.training.subject import Subject
from jaxrl.types import Discrete

from .conftest import make_config

# The recipe, the options, the option that has no effect with them, and why.
IDLE = {
    "initial_temperature": (
        "sac",
        "Pendulum-v1",
        {"temperature": 0.2, "initial_temperature": 2.0},
        "temperature is 0.2",
    ),
    "noisy_sigma": ("dqn", "CartPole-v1", {"noisy_sigma": 0.3}, "noisy is False"),
    "epsilon_start": ("c51", "CartPole-v1", {"noisy": True, "epsilon_start": 0.7}, "noisy is True"),
    "epsilon_end": ("iqn", "CartPole-v1", {"noisy": True, "epsilon_end": 0.2}, "noisy is True"),
    "epsilon_steps": ("rainbow", "CartPole-v1", {"epsilon_steps": 7}, "noisy is True"),
    "value_coef": ("reinforce", "CartPole-v1", {"baseline": False, "value_coef": 0.3}, "baseline is False"),
    "share_torso": ("reinforce", "CartPole-v1", {"baseline": False, "share_torso": True}, "baseline is False"),
    "clip_observation": ("ppo", "CartPole-v1", {"clip_observation": 5.0}, "normalize_observation is False"),
    "squash": ("ppo", "CartPole-v1", {"squash": True}, "actions are discrete"),
    "state_dependent_std": ("a2c", "CartPole-v1", {"state_dependent_std": True}, "actions are discrete"),
    "initial_log_std": ("trpo", "CartPole-v1", {"initial_log_std": -1.0}, "actions are discrete"),
    "target_noise_clip": ("td3", "Pendulum-v1", {"target_noise": 0.0, "target_noise_clip": 0.1}, "target_noise is 0.0"),
    "free_nats": ("world_models", "Catch-bsuite", {"kl_weight": 0.0, "free_nats": 1.0}, "kl_weight is 0.0"),
    "num_layers": ("world_models", "Catch-bsuite", {"num_layers": 3}, "model is 'mdn_rnn'"),
    "kl_rate": ("rlhf", "CartPole-v1", {"target_kl": None, "kl_rate": 0.3}, "target_kl is None"),
    "dyna_updates": ("mbmf", "Pendulum-v1", {"dyna": 0, "dyna_updates": 3}, "dyna is 0"),
    "targets": ("mbve", "Pendulum-v1", {"horizon": 0, "targets": "last"}, "horizon is 0"),
    "gae_lambda": ("a2c", "CartPole-v1", {"gamma": 0.0, "gae_lambda": 0.5}, "gamma is 0.0"),
    "td_lambda": ("pqn", "CartPole-v1", {"gamma": 0.0, "td_lambda": 0.5}, "gamma is 0.0"),
    "num_elites": ("pets", "Pendulum-v1", {"num_elites": 5}, "num_elites and num_members are both 5"),
    "context": ("world_models", "Catch-bsuite", {"context": 3}, "model is 'mdn_rnn'"),
}
ELSEWHERE = {
    "a pair is refused by the recipe": ("temperature", "target_entropy", "huber_delta", "clip_value_epsilon", "replay"),
    "a run fills num_updates in": ("anneal_learning_rate", "anneal_clip", "num_updates"),
}


def test_every_option_with_a_condition_is_here():
    assert {*IDLE, *(name for names in ELSEWHERE.values() for name in names)} == {*CONTEXTS}


@pytest.mark.parametrize("name", IDLE)
def test_an_option_without_effect_is_named_before_training(name):
    recipe, environment, values, reason = IDLE[name]
    space = envs.spec(*envs.make(environment)).action
    assert list(without_effect({**make_config(recipe=recipe).hyperparameters, **values}, [name], space)) == [
        (name, reason)
    ]


def test_any_number_will_do_where_a_number_is_needed():
    assert list(without_effect({"target_kl": 7.0, "kl_rate": 0.3}, ["kl_rate"], Discrete(2))) == []


@pytest.mark.parametrize("recipe", ["dqn", "pqn", "sarsa"])
def test_a_schedule_that_does_not_move_has_no_length(recipe):
    values = {**make_config(recipe=recipe).hyperparameters, "epsilon_start": 0.1, "epsilon_end": 0.1}
    reason = "epsilon_start and epsilon_end are both 0.1"
    assert list(without_effect(values, ["epsilon_steps"], Discrete(2))) == [("epsilon_steps", reason)]
    assert list(without_effect({**values, "epsilon_end": 0.05}, ["epsilon_steps"], Discrete(2))) == []


@pytest.mark.parametrize(
    ("recipe", "given", "message"),
    [
        ("mbve", {"horizon": 0}, "horizon is 0: the model is fitted, but never used"),
        ("mbpo", {"real_share": 1.0}, "real_share is 1.0: the model is fitted, but nothing"),
        ("sac", {"tau": 0.0}, "tau is 0.0: the target network is never updated"),
        ("td3", {"learning_rate": 0.0}, "learning_rate is 0.0: nothing is learned"),
        ("mbmf", {"random_steps": 300, "planned_steps": 400}, "planned_steps is 400, after 300 random ones"),
    ],
)
def test_settings_with_which_a_part_does_nothing_are_named(recipe, given, message):
    config = make_config(recipe=recipe, environment="Pendulum-v1", parts={}, hyperparameters=given)
    assert any(mistake.startswith(message) for mistake in sanity.probable_mistakes(config, build(config)))
    config = make_config(recipe=recipe, environment="Pendulum-v1", parts={}, num_steps=10**6)
    assert not any(mistake.startswith(message[:12]) for mistake in sanity.probable_mistakes(config, build(config)))


# All of the same part: a recipe for each.
@pytest.mark.parametrize("name", [name for name in IDLE if IDLE[name][0] in ("sac", "dqn", "c51", "reinforce", "ppo")])
def test_it_has_no_effect(name):
    recipe, environment, values, _ = IDLE[name]
    make, env = getattr(agents, recipe), probes.DiscountProbe(continuous=environment == "Pendulum-v1")
    subject = Subject(make, env, env.default_params, spec=envs.spec(env, env.default_params))
    others = {"torso": MLP(hidden=(4,)), **{option: value for option, value in values.items() if option != name}}
    before, after = (
        Programs(subject, subject.make(subject.spec, **others, **given), subject.spec)
        for given in ({}, {name: alternative(name, parameters(make)[name], parameters(make)[name].default)})
    )
    assert all(before[part] == after[part] for part in PARTS)


def test_only_options_that_were_given_are_named():
    config = make_config(recipe="dqn", parts={}, num_steps=10**6, hyperparameters={"noisy": True})
    assert list(sanity.probable_mistakes(config, build(config))) == []
    swept = dataclasses.replace(config, sweep=Sweep.grid({"epsilon_end": (0.05, 0.1)}))
    assert list(sanity.probable_mistakes(swept, build(swept))) == [
        "epsilon_end is swept, but has no effect while noisy is True"
    ]
    given = dataclasses.replace(config, hyperparameters={**config.hyperparameters, "epsilon_end": 0.3})
    assert list(sanity.probable_mistakes(given, build(given))) == [
        "epsilon_end is 0.3, but has no effect while noisy is True"
    ]
