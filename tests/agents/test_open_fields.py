"""What is open to recipes to come: more fields in extras and batches, groups of parameters of any name, tokens."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrl
from jaxrl import losses, replay
from jaxrl.agents.parts import critics, replaying
from jaxrl.networks import CategoricalHead, ValueHead
from jaxrl.types import Transition

KEY = jax.random.key(3)
T, B = 8, 2  # of the kit


class Extended(NamedTuple):
    """Extras of an agent that notes one more number of the moment of acting."""

    log_prob: Any
    raw_action: Any
    doubled: Any


def test_extras_may_have_more_fields_which_a_loss_reads(kit):
    """The number that a wrapped ``act`` adds is beside its own sample in the batch of the loss."""

    def loss(outputs, batch, settings):
        off = batch.transition.extras.doubled - 2.0 * batch.log_prob
        value, metrics = losses.ppo(outputs, batch, settings)
        return value, {**metrics, "off": jnp.abs(off).max(), "size": jnp.float32(off.size)}

    plain = jaxrl.ppo(kit.specs["continuous"], torso=kit.torso, loss=loss, num_epochs=1, num_minibatches=4)

    def act(key, state, observation, *, explore=True):
        action, extras = plain.act(key, state, observation, explore=explore)
        return action, Extended(*extras, 2.0 * extras.log_prob)

    agent = plain._replace(act=act)
    state = agent.init(KEY, B)
    _, metrics = jax.jit(agent.update)(KEY, state, kit.trajectory_of(agent, state, kit.specs["continuous"]))
    assert metrics["off"] == 0.0 and metrics["size"] == T * B / 4


def test_a_replay_keeps_the_extras_that_its_example_has(kit):
    """Of the first step of a window, beside its observation."""
    spec = kit.specs["discrete"]
    buffer = replay.uniform(64, n_step=2, gamma=0.9)
    wanted = {"policy": jax.ShapeDtypeStruct((4,), jnp.float32), "value": jax.ShapeDtypeStruct((), jnp.float32)}
    state = buffer.init(replaying.example(spec)._replace(extras=wanted), B)
    first = jnp.arange(float(T * B)).reshape(T, B)
    flags = jnp.zeros((T, B), bool)
    observation = jnp.broadcast_to(first[..., None], (T, B, 3))
    extras = {"policy": jnp.broadcast_to(first[..., None] + 0.5, (T, B, 4)), "value": -first}
    ones = jnp.ones((T, B))
    trajectory = Transition(observation, jnp.zeros((T, B), jnp.int32), ones, ones, flags, flags, observation, extras)
    sample = buffer.sample(KEY, buffer.add(state, trajectory), 32)
    seen = np.asarray(sample.transition.observation[:, 0])
    assert len(np.unique(seen)) > 4
    np.testing.assert_array_equal(sample.transition.extras["value"], -seen)
    np.testing.assert_array_equal(sample.transition.extras["policy"], np.tile(seen[:, None] + 0.5, (1, 4)))


def test_groups_of_parameters_have_any_names():
    """Each has an optimizer of its own, and a step of one leaves the others alone."""
    params = {name: {"w": jnp.full(3, 2.0)} for name in ("actor", "critics", "world")}
    optimizers = {"actor": optax.sgd(0.1), "critics": optax.sgd(0.2), "world": optax.sgd(0.5)}
    learner = critics.init_learner(params, ("world",), optimizers)
    assert set(learner.target_params) == {"world"} and set(learner.optimizer_state) == set(params)
    stepped = critics.descend(optimizers, learner, "world", {"w": jnp.ones(3)})
    np.testing.assert_allclose(stepped.params["world"]["w"], 1.5)
    for name in ("actor", "critics"):
        assert stepped.params[name] is params[name]
        assert stepped.optimizer_state[name] is learner.optimizer_state[name]


class Tokens(nn.Module):
    """A token for each feature: ``[N, D]`` to ``[N, D, 5]``."""

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(5)(x[..., None]))


class Pooled(nn.Module):
    """The mean over the tokens of ``Tokens``, made by hand."""

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(5)(x[..., None])).mean(axis=1)


def test_a_recipe_pools_tokens_and_extra_heads_see_them_all(kit):
    """PPO on tokens is PPO on their mean, and an auxiliary loss has a number for each token."""

    def loss(outputs, batch, settings):
        value, metrics = losses.ppo(outputs, batch, settings)
        guess = outputs.heads["next"]
        assert guess.shape == outputs.features.shape[:2] == batch.transition.observation.shape
        return value + 0.0 * guess.sum(), metrics

    spec = kit.specs["discrete"]
    options = {"num_epochs": 1, "num_minibatches": 2}

    class Next(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(x)[..., 0]

    tokens = jaxrl.ppo(spec, torso=Tokens(), loss=loss, heads={"next": Next()}, **options)
    pooled = jaxrl.ppo(spec, torso=Pooled(), **options)
    state = tokens.init(KEY, B)
    inner = dict(state.params["params"])
    assert inner.pop("extra_heads_next")["Dense_0"]["kernel"].shape == (5, 1)
    same = pooled.init(KEY, B)
    assert jax.tree.structure(same.params["params"]) == jax.tree.structure(inner)
    same = same._replace(params={"params": inner})
    trajectory = kit.trajectory_of(pooled, same, spec)
    stepped, _ = jax.jit(tokens.update)(KEY, state, trajectory)
    expected, _ = jax.jit(pooled.update)(KEY, same, trajectory)
    for name, group in expected.params["params"].items():
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), stepped.params["params"][name], group)
    value = jaxrl.functions(jaxrl.dqn, spec, torso=Tokens()).action_values
    made = jaxrl.dqn(spec, torso=Tokens()).init(KEY, B)
    assert value(made, trajectory.observation).shape == (T, B, 4)


def test_heads_act_on_the_last_axis():
    """On tokens they give a distribution and a value for each."""
    x = jax.random.normal(KEY, (2, 6, 5))
    policy, value = CategoricalHead(3), ValueHead()
    params, value_params = policy.init(KEY, x[:, 0]), value.init(KEY, x[:, 0])
    found = policy.apply(params, x)
    assert found.log_prob(jnp.zeros((2, 6), jnp.int32)).shape == (2, 6)
    for token in range(6):
        np.testing.assert_allclose(found.logits[:, token], policy.apply(params, x[:, token]).logits, rtol=1e-5)
    np.testing.assert_allclose(value.apply(value_params, x)[:, 2], value.apply(value_params, x[:, 2]), rtol=1e-5)
