"""Every recipe x every property. A new recipe joins by a line of ``RECIPES``."""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from jaxrl.agents import (
    a2c,
    a3c,
    alphazero,
    c51,
    ddpg,
    dqn,
    expected_sarsa,
    iqn,
    ppo,
    pqn,
    q_learning,
    qr_dqn,
    rainbow,
    reinforce,
    sac,
    sarsa,
    td3,
    trpo,
)
from jaxrl.envs import expose_state, make, probes, remember, simulator, spec
from jaxrl.envs.goals import BitFlipping, PointReach
from jaxrl.networks import GRU, MLP, Conv, Transformer, memory_of
from jaxrl.ops import across
from jaxrl.replay import hindsight
from jaxrl.training import train
from jaxrl.training.checks import PROPERTIES, Subject, float_options


class Recipe(NamedTuple):
    """A recipe, and what it is given.

    Attributes:
      make: the recipe, its structural options bound.
      full: options that are off by default, switched on in the last of its environments; its floats are vmapped over
        too.
      exempt: properties that it does not promise.
      environments: those of ``ENVIRONMENTS`` that it takes.
    """

    make: Any
    full: dict[str, Any]
    exempt: tuple[str, ...] = ()
    environments: tuple[str, ...] = ("discrete", "image", "continuous")


# Small, and so early to learn that the first update does.
REPLAYED = {"replay_capacity": 48, "batch_size": 4, "learning_starts": 8}
TARGETED = {**REPLAYED, "target_interval": 2, "epsilon_steps": 100}
DISCRETE = ("discrete", "image")
NORMALIZED = {"normalize_observation": True, "normalize_reward": True}

BITS, POINT, RECURRENT = BitFlipping(4), PointReach(), GRU(size=4)
PLANNED = expose_state(probes.DiscountProbe())
GAME = expose_state(make("pgx/tic_tac_toe")[0])
PLANS = {"num_simulations": 4, "replay_capacity": 48, "batch_size": 4, "learning_starts": 2}

RECIPES = {
    "reinforce": Recipe(reinforce, {**NORMALIZED, "max_grad_norm": 0.5, "state_dependent_std": True}),
    "reinforce_plain": Recipe(partial(reinforce, baseline=False), {**NORMALIZED, "entropy_coef": 0.01}),
    "a2c": Recipe(a2c, {**NORMALIZED, "huber_delta": 1.0, "squash": True, "share_torso": True}),
    "a3c": Recipe(partial(a3c, max_delay=8), {"delay": 2, "squash": True}),
    "ppo": Recipe(ppo, {**NORMALIZED, "clip_value_epsilon": 0.2, "target_kl": 0.02, "anneal_clip": True}),
    "trpo": Recipe(
        partial(trpo, num_minibatches=4),
        {**NORMALIZED, "huber_delta": 1.0, "max_grad_norm": 0.5, "entropy_coef": 0.01, "state_dependent_std": True},
    ),
    "dqn": Recipe(
        partial(dqn, **TARGETED),
        {"double": True, "dueling": True, "prioritized": True, "n_step": 3, "num_gradient_steps": 2},
        environments=DISCRETE,
    ),
    "c51": Recipe(partial(c51, **TARGETED, num_atoms=5), {"double": True}, environments=("discrete",)),
    "qr_dqn": Recipe(partial(qr_dqn, **TARGETED, num_quantiles=4), {"n_step": 2}, environments=("discrete",)),
    "iqn": Recipe(partial(iqn, **TARGETED, num_cosines=8), {"dueling": True}, environments=("discrete",)),
    "ddpg": Recipe(partial(ddpg, **REPLAYED), {"prioritized": True, "n_step": 3}, environments=("continuous",)),
    "td3": Recipe(partial(td3, **REPLAYED), {"num_gradient_steps": 3}, environments=("continuous",)),
    "sac": Recipe(partial(sac, **REPLAYED), {"n_step": 3, "num_gradient_steps": 2, "max_grad_norm": 1.0}),
    "rainbow": Recipe(partial(rainbow, **TARGETED, num_atoms=5), {"num_gradient_steps": 2}, environments=DISCRETE),
    "pqn": Recipe(
        partial(pqn, epsilon_steps=100),
        {"dueling": True, "anneal_learning_rate": True, "num_updates": 10},
        environments=DISCRETE,
    ),
    **{
        make.__name__: Recipe(
            partial(make, epsilon_steps=100), {"omega": 0.7, "initial_value": 0.5}, environments=("indexed",)
        )
        for make in (q_learning, sarsa, expected_sarsa)
    },
    # Options are those of ppo, dqn and td3, where it is tried that they matter.
    "ppo_gru": Recipe(
        partial(ppo, num_minibatches=2),
        {**NORMALIZED, "target_kl": 0.02, "state_dependent_std": True},
        exempt=("options_matter",),
        environments=("remembered",),
    ),
    "alphazero": Recipe(
        partial(alphazero, **PLANS, model=simulator(PLANNED), gamma=0.9, n_step=3),
        {"n_step": 1, "num_gradient_steps": 2},
        environments=("planned",),
    ),
    "alphazero_game": Recipe(
        partial(alphazero, **PLANS, model=simulator(GAME), search="puct"),
        {"symmetries": GAME.env.symmetries},
        exempt=("options_matter",),
        environments=("game",),
    ),
    "dqn_hindsight": Recipe(
        partial(dqn, **TARGETED, replay=hindsight(BITS.reward_fn, BITS.terminated_fn)),
        {"n_step": 3, "num_gradient_steps": 2},
        exempt=("options_matter",),
        environments=("bits",),
    ),
    "td3_hindsight": Recipe(
        partial(td3, **REPLAYED, replay=hindsight(POINT.reward_fn)),
        {"num_gradient_steps": 2},
        exempt=("options_matter",),
        environments=("point",),
    ),
}

ENVIRONMENTS = {
    "discrete": (probes.DiscountProbe(), MLP(hidden=(8,))),
    "continuous": (probes.DiscountProbe(continuous=True), MLP(hidden=(8,))),
    "image": (probes.ImageProbe(), Conv(channels=(2,), hidden=(8,))),
    "indexed": (probes.Indexed(probes.DiscountProbe()), None),
    "bits": (BITS, MLP(hidden=(8,))),
    "point": (POINT, MLP(hidden=(8,))),
    "remembered": (remember(probes.DiscountProbe(continuous=True), memory_of(RECURRENT)), RECURRENT),
    "planned": (PLANNED, MLP(hidden=(8,))),
    "game": (GAME, MLP(hidden=(8,))),
}

CASES = [
    (recipe, environment, property_)
    for recipe in RECIPES
    for environment in RECIPES[recipe].environments
    for property_ in PROPERTIES
    # Options that matter for continuous actions alone are tried with those in every environment.
    if (environment == RECIPES[recipe].environments[0] or property_ != "options_matter")
    and property_ not in RECIPES[recipe].exempt
]


@lru_cache(maxsize=1)  # tests of one case follow each other and share its programs
def subject(recipe, environment):
    env, torso = ENVIRONMENTS[environment]
    options = dict(RECIPES[recipe].full) if environment == RECIPES[recipe].environments[-1] else {}
    if options.get("anneal_clip"):
        options["num_updates"] = 10
    if torso is not None:
        options["torso"] = torso
    make = partial(RECIPES[recipe].make, **options)
    return Subject(make, env, env.default_params, spec=spec(env, env.default_params))


@pytest.mark.parametrize(("recipe", "environment", "property_"), CASES)
def test_conformance(recipe, environment, property_):
    PROPERTIES[property_](subject(recipe, environment))


@pytest.mark.parametrize("recipe", RECIPES)
def test_parts_of_the_environments_learn_one_thing(recipe):
    """Two devices, as a ``vmap``, whose environments pay differently: all but ``per_env`` stays the same on both."""
    tested = subject(recipe, RECIPES[recipe].environments[-1])
    first, trajectory = tested.experience.states[0], tested.experience.trajectory
    pair = lambda x, y: jax.tree.map(lambda x, y: jnp.stack([x, y]), x, y)  # noqa: E731
    trajectories = pair(trajectory, trajectory._replace(reward=1.0 - 0.5 * trajectory.reward))
    update = jax.jit(jax.vmap(tested.agent.update, axis_name=across.AXIS))
    states = pair(first, first)
    for _ in range(1 + RECIPES[recipe].full.get("delay", 0)):  # a late gradient moves nothing at first
        states, _ = update(jax.random.split(tested.key, 2), states, trajectories)
    shared = states._replace(per_env=())
    for path, leaf in jax.tree_util.tree_leaves_with_path(shared):
        assert (leaf[0] == leaf[1]).all(), jax.tree_util.keystr(path)
    moved = jax.tree.map(lambda new, old: (new[0] != old).any(), shared.params, first.params)
    assert any(jax.tree.leaves(moved))


TRANSFORMER = Transformer(width=4, mlp_ratio=1, dropout=0.5)
TRANSFORMED = [
    (recipe, name)
    for recipe in RECIPES
    for name in RECIPES[recipe].environments
    if isinstance(ENVIRONMENTS[name][1], (MLP, Conv))
]


@pytest.mark.parametrize(("recipe", "environment"), TRANSFORMED)
def test_every_recipe_takes_a_transformer(recipe, environment):
    """Over seeds and over tracers for floats at once, from a first state to an updated one; traced, not run."""
    env, _ = ENVIRONMENTS[environment]
    make = partial(RECIPES[recipe].make, torso=TRANSFORMER)
    subject = Subject(make, env, env.default_params, spec=spec(env, env.default_params))
    state, observation, trajectory = subject.abstract(subject.agent, subject.spec)
    floats = {name: jnp.full(3, value) for name, value in float_options(make).items()}

    def run(key, floats, observation, trajectory):
        agent = make(subject.spec, **floats)
        state = agent.init(key, subject.num_envs)
        return agent.act(key, state, observation)[0], *agent.update(key, state, trajectory)

    over = jax.vmap(run, in_axes=(0, 0, None, None))
    keys = jax.random.split(subject.key, 3)
    action, updated, metrics = jax.eval_shape(over, keys, floats, observation, trajectory)
    assert action.shape == (3, *trajectory.action.shape[1:])
    expected = jax.tree.map(lambda x: ((3, *x.shape), x.dtype), state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), updated) == expected
    assert {leaf.shape for leaf in jax.tree.leaves(metrics)} == {(3,)}


@pytest.mark.parametrize(
    "recipe", [name for name in RECIPES if not {"continuous", "point", "remembered"} & {*RECIPES[name].environments}]
)
def test_continuous_actions_are_refused_by_name(recipe):
    env = probes.DiscountProbe(continuous=True)
    with pytest.raises(TypeError, match=r"^spec: .*Box"):
        RECIPES[recipe].make(spec(env, env.default_params))


@pytest.mark.parametrize("recipe", [name for name in RECIPES if RECIPES[name].environments == ("continuous",)])
def test_discrete_actions_are_refused_by_name(recipe):
    env = probes.DiscountProbe()
    with pytest.raises(TypeError, match=r"^spec: .*Discrete"):
        RECIPES[recipe].make(spec(env, env.default_params))


@pytest.mark.parametrize(
    ("recipe", "environment"),
    [
        (recipe, environment)
        for recipe in RECIPES
        for environment in dict.fromkeys((RECIPES[recipe].environments[0], RECIPES[recipe].environments[-1]))
        if environment != "game"  # pgx mixes int32 and int64 with x64 on
    ],
)
def test_state_stays_in_32_bits_with_x64_on(recipe, environment):
    """Two updates, traced: what would not fit the scan's carry is refused there."""
    with jax.enable_x64(True):
        tested = subject.__wrapped__(recipe, environment)
        run = partial(train, agent=tested.agent, env=tested.env, params=tested.params)
        state, _ = jax.eval_shape(lambda key: run(key, num_steps=64, num_envs=4, rollout_length=8), jax.random.key(0))
    wide = {
        jax.tree_util.keystr(path): leaf.dtype
        for path, leaf in jax.tree_util.tree_leaves_with_path(state._replace(env_state=()))
        if leaf.dtype in (jnp.dtype("float64"), jnp.dtype("int64"))
    }
    assert not wide
