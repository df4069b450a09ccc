"""Models as environments: a model that is right dreams what is real."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs, models
from jaxrl.types import Discrete, Model, Simulated, Spec

SIDE = 4


class Grid:
    """A 4 x 4 grid, four moves, from corner to corner; every step costs 1. Its observation is the place, one-hot."""

    default_params = ()

    def action_space(self, params=None):
        return Discrete(4)

    def reset(self, key, params=None):
        return jax.nn.one_hot(0, SIDE * SIDE), jnp.int32(0)

    def step(self, key, state, action, params=None):
        move = jnp.array([[0, 1], [1, 0], [0, -1], [-1, 0]])[action]
        row, column = jnp.clip(jnp.stack([state // SIDE, state % SIDE]) + move, 0, SIDE - 1)
        place = row * SIDE + column
        ends = place == SIDE * SIDE - 1
        final = jax.nn.one_hot(place, SIDE * SIDE)
        observation = jnp.where(ends, jax.nn.one_hot(0, SIDE * SIDE), final)
        info = {"final_observation": final}
        return observation, jnp.where(ends, 0, place), -jnp.ones(()), ends, jnp.bool_(False), info


def lookup_table():
    """A model that is a table of every step of the grid, seen from outside."""
    grid = Grid()
    places, actions = jnp.meshgrid(jnp.arange(SIDE * SIDE), jnp.arange(4), indexing="ij")
    step = jax.vmap(jax.vmap(partial(grid.step, jax.random.key(0))))
    _, _, reward, ends, _, info = step(places, actions)
    table = (info["final_observation"], reward, ends)

    def model_step(params, key, state, action):
        observation, reward, ends = jax.tree.map(lambda leaf: leaf[state, action], params)
        after = observation.argmax().astype(jnp.int32)
        return Simulated(after, observation, reward, 1.0 - ends.astype(jnp.float32), jnp.bool_(False))

    return Model(lambda key: table, model_step), table


def test_a_dream_of_a_lookup_table_is_real_step_for_step():
    grid = Grid()
    model, table = lookup_table()
    dreamt = models.as_env(model, table, lambda key, params: grid.reset(key), Discrete(4), max_steps=10_000)

    def walk(env):
        params = env.default_params

        def step(carry, key):
            _, state = carry
            observation, state, reward, terminated, truncated, info = env.step(
                key, state, jax.random.randint(key, (), 0, 4), params
            )
            seen = (observation, reward, terminated, truncated, info["final_observation"])
            return (observation, state), seen

        return jax.lax.scan(step, env.reset(jax.random.key(1), params), jax.random.split(jax.random.key(2), 300))[1]

    real, dream = jax.jit(lambda: (walk(grid), walk(dreamt)))()
    jax.tree.map(np.testing.assert_array_equal, real, dream)
    assert int(real[2].sum()) > 2


def test_it_keeps_the_protocol_and_cuts_at_the_time_limit():
    model, table = lookup_table()
    grid = Grid()
    start = lambda key, params: (lambda place: (jax.nn.one_hot(place, 16), place))(  # noqa: E731
        jax.random.randint(key, (), 0, 15)
    )
    env = models.as_env(model, table, start, Discrete(4), max_steps=7)
    report = envs.check(env)
    assert report.terminated > 0 and report.truncated > 0
    longer = env.default_params._replace(max_steps_in_episode=1000)
    assert envs.check(env, longer).truncated == 0
    assert envs.spec(env) == envs.spec(grid)


SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), Discrete(3))
MAKERS = {
    "mdn_rnn": models.mdn_rnn(SPEC, latent_size=2, hidden_size=4),
    "transformer": models.transformer(SPEC, latent_size=2, width=8, num_heads=2, context=4),
}


def dream_of(sequence, **options):
    params = jax.jit(sequence.init)(jax.random.key(0))
    posterior = models.Latent(jax.random.normal(jax.random.key(1), (20, 2)), jnp.full((20, 2), -1.0))

    def start(key, params):
        row_key, key = jax.random.split(key)
        row = jax.random.randint(row_key, (), 0, 20)
        state = models.first(sequence, jax.tree.map(lambda leaf: leaf[row], posterior).sample(key))
        return models.observe(state), state

    return models.as_env(partial(models.dream, sequence), params, start, SPEC.action, **options)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_dream_keeps_the_protocol(maker):
    env = dream_of(MAKERS[maker], max_steps=6)
    assert envs.check(env).episodes > 0
    assert envs.spec(env).observation.shape == (2 + MAKERS[maker].feature_size,)


def test_the_temperature_is_a_parameter():
    env = dream_of(MAKERS["mdn_rnn"])
    _, state = env.reset(jax.random.key(0))
    step = jax.jit(
        jax.vmap(lambda key, t: env.step(key, state, 0, env.default_params._replace(temperature=t))[5], (0, None))
    )
    keys = jax.random.split(jax.random.key(1), 200)
    spread = [float(step(keys, jnp.float32(t))["final_observation"][:, :2].std(0).mean()) for t in (0.0, 0.5, 1.0, 2.0)]
    assert spread[0] < 1e-6
    assert spread == sorted(spread)


@pytest.mark.parametrize("maker", MAKERS)
def test_awake_the_memory_moves_as_in_the_dream(maker):
    sequence = MAKERS[maker]
    params = jax.jit(sequence.init)(jax.random.key(0))
    state = models.first(sequence, jnp.ones(2))
    dreamt = models.dream(sequence).step(params, jax.random.key(1), state, jnp.int32(1)).state
    awake = models.wake(sequence, params, state, jnp.int32(1), dreamt.z)
    jax.tree.map(np.testing.assert_array_equal, dreamt, awake)


def test_the_end_is_where_its_logit_is_positive():
    sequence = MAKERS["mdn_rnn"]
    params = jax.jit(sequence.init)(jax.random.key(0))
    state = models.first(sequence, jnp.zeros(2))
    for logit, discount in ((-5.0, 1.0), (5.0, 0.0)):
        changed = jax.tree.map(lambda leaf: leaf, params)
        changed["params"]["heads"]["Dense_0"]["bias"] = changed["params"]["heads"]["Dense_0"]["bias"].at[-1].add(logit)
        step = models.dream(sequence).step(changed, jax.random.key(1), state, jnp.int32(1))
        assert float(step.discount) == discount


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("model", {"model": 3}),
        ("model", {"model": Model(lambda key: (), lambda *args: None, 2)}),
        ("start", {"start": None}),
        ("action", {"action": 4}),
        ("max_steps", {"max_steps": 0}),
    ],
)
def test_what_is_refused(name, changed):
    model, table = lookup_table()
    given = {"model": model, "params": table, "start": lambda key, params: None, "action": Discrete(4), **changed}
    with pytest.raises((TypeError, ValueError), match=f"^{name}: got "):
        models.as_env(**given)
    with pytest.raises(ValueError, match="^temperature: got "):
        models.dream(MAKERS["mdn_rnn"], -1.0)
