"""A torso that drops out does so in the gradients of every recipe, and nowhere else."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.envs import probes
from jaxrl.networks import Transformer
from jaxrl.rollout import reset, rollout
from jaxrl.training.programs import PARTS, Programs
from jaxrl.training.subject import Subject


class Torso(nn.Module):
    """Drops out where it is given random numbers to."""

    dropout: float

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(32)(x.reshape(x.shape[0], -1)))
        return nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)


RECIPES = {
    **{name: probes.ObservationProbe for name in ("a2c", "ppo", "reinforce", "dqn", "c51", "iqn", "pqn", "sac")},
    **{name: probes.ContinuousActionProbe for name in ("ddpg", "td3")},
}
# The library's own, in a recipe of each family.
TORSOS = {name: partial(Transformer, 1, 2, 8, 1) for name in ("ppo", "dqn", "sac", "td3")}


def pair(name, torso):
    """The environment of a recipe, and what makes it with a torso that drops out half and with one that keeps all."""
    env = RECIPES[name]()
    off_policy = name not in ("a2c", "ppo", "reinforce", "pqn")
    options = {"learning_starts": 8, "batch_size": 16, "replay_capacity": 64} if off_policy else {}
    return env, [partial(getattr(jaxrl, name), torso=torso(dropout=rate), **options) for rate in (0.5, 0.0)]


@pytest.mark.parametrize("name", RECIPES)
def test_programs_differ_in_updates_alone(name):
    """Traced: with and without dropout the programs of init and act are the same, letter by letter."""
    env, makers = pair(name, TORSOS.get(name, Torso))
    described = jaxrl.spec(env, env.default_params)
    subjects = [Subject(make, env, env.default_params, spec=described) for make in makers]
    drops, keeps = (Programs(subject, subject.agent, described) for subject in subjects)
    for part in PARTS:
        assert (drops[part] != keeps[part]) == (part == "update"), part


@pytest.mark.parametrize("name", ["a2c", "dqn", "ddpg"])
def test_gradients_alone_drop_out(name):
    """Computed, in a recipe of each family: the parameters after an update differ, greedy actions do not."""
    env, makers = pair(name, Torso)
    drops, keeps = (make(jaxrl.spec(env, env.default_params)) for make in makers)
    observation, env_state = reset(jax.random.key(1), env, env.default_params, 8)

    @jax.jit
    def run(key):
        state = drops.init(key, 8)
        _, _, trajectory = rollout(key, drops, state, env, env.default_params, env_state, observation, 4)
        updated = [agent.update(key, state, trajectory)[0].params for agent in (drops, keeps)]
        return updated, [agent.act(key, state, observation, explore=False)[0] for agent in (drops, keeps)]

    (dropped, kept), actions = run(jax.random.key(0))
    assert any(bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (dropped, kept)), strict=True))
    np.testing.assert_array_equal(*actions)
