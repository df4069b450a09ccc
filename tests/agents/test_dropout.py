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


@pytest.mark.parametrize("name", RECIPES)
def test_gradients_alone_drop_out(name):
    env = RECIPES[name]()
    spec = jaxrl.spec(env, env.default_params)
    off_policy = name not in ("a2c", "ppo", "reinforce", "pqn")
    options = {"learning_starts": 8, "batch_size": 16, "replay_capacity": 64} if off_policy else {}
    torsos = (TORSOS.get(name, Torso)(dropout=rate) for rate in (0.5, 0.0))
    drops, keeps = (getattr(jaxrl, name)(spec, torso=torso, **options) for torso in torsos)
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
