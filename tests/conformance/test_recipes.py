"""Every recipe x every property. A new recipe joins by a line of ``RECIPES``.

What compiles is tested in the last environment of a recipe, with all of its options, and with other floats than the
defaults, among which there are 0 and 1, that hide a mistake. In the other environments programs are traced at the
defaults, which finds what depends on the observation and the action space: shapes, dtypes and floats that can't be
tracers. Floats whose default is None are traced where ``options_matter``, one after the other.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import agents, text
from jaxrl.agents import (
    a2c,
    a3c,
    alphazero,
    c51,
    ddpg,
    dqn,
    expected_sarsa,
    grpo,
    i2a,
    iqn,
    mbmf,
    mbpo,
    mbve,
    mpc,
    muzero,
    pets,
    ppo,
    pqn,
    q_learning,
    qr_dqn,
    rainbow,
    reinforce,
    rlhf,
    rloo,
    sac,
    sarsa,
    steve,
    td3,
    trpo,
    world_models,
)
from jaxrl.agents.combinators import with_reward
from jaxrl.agents.parts import planning
from jaxrl.agents.world_models import memory_of as memory_of_model
from jaxrl.envs import expose_state, make, probes, remember, repeat, simulator, spec, texts
from jaxrl.envs.goals import BitFlipping, PointReach
from jaxrl.feedback import preferences, rnd, teachers
from jaxrl.networks import GRU, MLP, Conv, Transformer, memory_of
from jaxrl.ops import across
from jaxrl.planners import sequence_like
from jaxrl.replay import hindsight, prioritized
from jaxrl.training import train
from jaxrl.training.checks import PROPERTIES, Subject, float_options
from jaxrl.training.options import other_float
from jaxrl.training.subject import to_numpy
from jaxrl.types import Discrete


class Recipe(NamedTuple):
    """A recipe, and what it is given.

    Attributes:
      make: the recipe, its structural options bound.
      full: options that are off by default, switched on in the last of its environments; its floats are vmapped over
        too. Of a float the half is taken.
      exempt: properties that it does not promise.
      environments: those of ``ENVIRONMENTS`` that it takes; compiled properties are tested in the last one.
    """

    make: Any
    full: dict[str, Any]
    exempt: tuple[str, ...] = ()
    environments: tuple[str, ...] = ("image", "discrete", "continuous")


# Small, and so early to learn that the first update does.
REPLAYED = {"replay_capacity": 48, "batch_size": 4, "learning_starts": 8}
TARGETED = {**REPLAYED, "target_interval": 2, "epsilon_steps": 100}
CLIMBING = {"actor_learning_rate": 1e-3, "max_grad_norm": 1.0}
DISCRETE = ("image", "discrete")
NORMALIZED = {"normalize_observation": True, "normalize_reward": True}

BITS, POINT, RECURRENT = BitFlipping(4), PointReach(), GRU(size=4)
PLANNED = expose_state(probes.DiscountProbe())
PLANNED_BOX = expose_state(probes.ContinuousObservationActionProbe())
PLAN_REMEMBERED = remember(expose_state(probes.MaskedProbe()), sequence_like(Discrete(3), 3))
GAME = expose_state(make("pgx/tic_tac_toe")[0])
# Each of two prompts is answered eight times: a group is a rollout.
TEXTS = repeat(texts.Vowels(2), 8)
WRITER = text.gpt2(28, width=8, num_layers=1, num_heads=2, max_length=7)
DYNAMICS = {"hidden": (8,), "horizon": 2, "population": 10, "max_epochs": 2, "batch_size": 4, "data_capacity": 48}
MODELLED = {**REPLAYED, "hidden": (8,), "max_epochs": 2, "model_batch_size": 4, "refit_every": 8}
PLANS = {"num_simulations": 4, "replay_capacity": 48, "batch_size": 4, "learning_starts": 2}
WORLD = {
    "latent_size": 2,
    "hidden_size": 4,
    "num_components": 2,
    "chain_size": 2,
    "steps_per_round": 8,
    "replay_capacity": 48,
    "sequence_length": 4,
    "vision_epochs": 1,
    "model_epochs": 1,
    "population": 4,
    "num_generations": 1,  # later ones depend on the basis of an eigenspace, which rounding decides
    "num_dreams": 2,
    "dream_length": 3,
}
WORLD_TRANSFORMER = {
    "model": "transformer",
    "num_layers": 1,
    "context": 3,
    "chain_size": 0,
    "strategy": "sep_cma_es",
}


def world(env, **options):
    return remember(env, memory_of_model(spec(env), options))


def curiosity(spec, **floats):
    return rnd(spec, torso=MLP(hidden=(4,)), embedding_size=4, **floats)


def rewarded_a2c(spec, *, torso=None, learning_rate=7e-4):
    agent = a2c(spec, torso=torso, learning_rate=learning_rate, normalize_reward=True)
    return with_reward(agent, curiosity(spec))


def rewarded_dqn(
    spec,
    *,
    torso=None,
    learning_rate=5e-4,
    bonus_coef=1.0,
    reward_coef=1.0,
    bonus_learning_rate=1e-4,
    bonus_gamma=0.99,
    alpha=0.6,
    beta=0.4,
    epsilon=1e-6,
):
    """With the floats of its reward model and of its replay, so that those are traced too."""
    floats = {"bonus_coef": bonus_coef, "reward_coef": reward_coef, "gamma": bonus_gamma}
    model = curiosity(spec, learning_rate=bonus_learning_rate, **floats)
    replay = partial(prioritized, alpha=alpha, beta=beta, epsilon=epsilon)
    return dqn(spec, torso=torso, learning_rate=learning_rate, reward_model=model, replay=replay, n_step=2, **TARGETED)


# A session in every update of 8 steps in 4 environments.
ASKED = {"labels": 8, "queries": 2, "query_interval": 8, "segment_length": 3, "memory": 64, "num_gradient_steps": 10}


def compared(spec, **floats):
    return preferences(spec, torso=MLP(hidden=(4,)), batch_size=4, **ASKED, **floats)


def preferring_ppo(spec, *, torso=None, learning_rate=3e-4):
    return with_reward(ppo(spec, torso=torso, learning_rate=learning_rate), compared(spec))


def preferring_dqn(
    spec, *, torso=None, learning_rate=5e-4, model_learning_rate=1e-3, noise=0.1, initial_penalty=1e-4, mistake=0.1
):
    """With the floats of its reward model and of its teacher, so that those are traced too."""
    floats = {"learning_rate": model_learning_rate, "noise": noise, "initial_penalty": initial_penalty}
    model = compared(spec, teacher=teachers.scripted(mistake=mistake, rationality=1.0), **floats)
    return dqn(spec, torso=torso, learning_rate=learning_rate, reward_model=model, n_step=2, **TARGETED)


def hindsight_dqn(spec, *, torso=None, k=4.0, **options):
    return dqn(spec, torso=torso, replay=hindsight(BITS.reward_fn, BITS.terminated_fn, k=k), **TARGETED, **options)


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
    "ddpg": Recipe(
        partial(ddpg, **REPLAYED), {"prioritized": True, "n_step": 3, **CLIMBING}, environments=("continuous",)
    ),
    "td3": Recipe(partial(td3, **REPLAYED), {"num_gradient_steps": 3, **CLIMBING}, environments=("continuous",)),
    "sac": Recipe(partial(sac, **REPLAYED), {"n_step": 3, "num_gradient_steps": 2, "target_entropy": -2.0, **CLIMBING}),
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
    "i2a": Recipe(
        partial(i2a, depth=2, model_channels=2, model_hidden=4, encoder_channels=2, encoder_size=4, joint_size=8),
        {"normalize_reward": True, "model_epochs": 2},
        environments=("image",),
    ),
    # Plans are the same whatever was learned: nothing is.
    "mpc": Recipe(
        partial(mpc, model=simulator(PLANNED_BOX.env), horizon=3, population=16),
        {"gamma": 0.9, "planner": "mppi", "terminal_value": lambda observation: observation[..., 0]},
        exempt=("learns_one_thing_on_two_devices",),
        environments=("planned_box",),
    ),
    "mpc_remembered": Recipe(
        partial(mpc, model=simulator(PLAN_REMEMBERED.env.env), horizon=3, population=8),
        {},
        # The best action does not depend on the key.
        exempt=("options_matter", "learns_one_thing_on_two_devices", "seeds_differ"),
        environments=("plan_remembered",),
    ),
    # Of two actions the better one has all of the paper's scale of values, which leaves noise no say.
    "muzero": Recipe(
        partial(muzero, **PLANS, unroll_steps=2, search=partial(planning.gumbel, value_scale=0.02)),
        {"prioritized": True, "n_step": 2, "reanalyze_values": False, "support_size": 3, "num_gradient_steps": 2},
        environments=("discrete",),
    ),
    # The MDN-RNN is compiled in tests/agents, where frames are images, the transformer here.
    "world_models": Recipe(
        partial(world_models, **WORLD, num_rounds=2),
        WORLD_TRANSFORMER,
        exempt=("options_matter",),  # the memory that the environment feeds back depends on them
        environments=("world_continuous", "world_transformer"),
    ),
    "pets": Recipe(
        partial(pets, **DYNAMICS, learning_starts=8),
        {"num_elites": 2, "termination": "learned", "gamma": 0.9},
        environments=("choices", "numbers"),
    ),
    # Eight steps of each: the first update of the second rollout clones.
    "mbmf": Recipe(
        partial(mbmf, **DYNAMICS, random_steps=1, planned_steps=8, cloned_steps=8, num_minibatches=4),
        {"num_members": 2, "termination": "learned", "normalize_reward": True, "squash": True, "dyna": 2},
        environments=("discrete", "continuous"),
    ),
    "mbve": Recipe(
        partial(mbve, **MODELLED, horizon=2, num_members=2, data_capacity=48),
        {"n_step": 2, "num_elites": 1, "termination": "learned", "num_gradient_steps": 2, **CLIMBING},
        environments=("continuous",),
    ),
    "mbve_sac": Recipe(
        partial(mbve, **MODELLED, base="sac", horizon=2, num_members=2, data_capacity=48),
        {"targets": "last", "prioritized": True},
        exempt=("options_matter",),
        environments=("discrete", "continuous"),
    ),
    "steve": Recipe(
        partial(steve, **MODELLED, horizon=2, num_members=2, num_critics=2, data_capacity=48),
        {"termination": "learned"},
        environments=("continuous",),
    ),
    "mbpo": Recipe(
        partial(mbpo, **MODELLED, num_members=2, num_elites=1, num_rollouts=3, imagined_capacity=48),
        {"rollout_steps": 2, "num_gradient_steps": 2, "termination": "learned", "target_entropy": -2.0, **CLIMBING},
        environments=("discrete", "continuous"),
    ),
    "dqn_hindsight": Recipe(
        hindsight_dqn,
        {"n_step": 3, "num_gradient_steps": 2},
        environments=("bits",),
    ),
    # Rewards of a model: stored by an agent that is wrapped, computed at sampling by a recipe with a replay.
    "a2c_rewarded": Recipe(
        rewarded_a2c,
        {"learning_rate": 1e-3},
        exempt=("options_matter",),
        environments=("discrete", "continuous"),
    ),
    "dqn_rewarded": Recipe(rewarded_dqn, {"learning_rate": 1e-3}, environments=("discrete",)),
    "ppo_preferring": Recipe(
        preferring_ppo, {"learning_rate": 1e-3}, exempt=("options_matter",), environments=("image", "continuous")
    ),
    "dqn_preferring": Recipe(preferring_dqn, {"learning_rate": 1e-3}, environments=("discrete",)),
    "grpo": Recipe(
        partial(grpo, network=WRITER),
        {"kl_in": "reward", "denominator": "tokens", "num_epochs": 2},
        environments=("texts",),
    ),
    "rloo": Recipe(partial(rloo, network=WRITER), {"num_minibatches": 2}, environments=("texts",)),
    "rlhf": Recipe(partial(rlhf, network=WRITER), {"target_kl": 3.0}, environments=("texts",)),
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
    "choices": (probes.ObservationActionProbe(), None),
    "numbers": (probes.ContinuousObservationActionProbe(), None),
    "planned_box": (PLANNED_BOX, None),
    "plan_remembered": (PLAN_REMEMBERED, None),
    "game": (GAME, MLP(hidden=(8,))),
    "texts": (TEXTS, None),
    "world_continuous": (world(probes.DiscountProbe(continuous=True), **WORLD), None),
    "world_transformer": (world(probes.DiscountProbe(), **{**WORLD, **WORLD_TRANSFORMER}), None),
}


@lru_cache(maxsize=1)  # tests of one case follow each other and share its programs
def subject(recipe, environment):
    env, torso = ENVIRONMENTS[environment]
    last = environment == RECIPES[recipe].environments[-1]
    options = dict(RECIPES[recipe].full) if last else {}
    if options.get("anneal_clip"):
        options["num_updates"] = 10
    if torso is not None:
        options["torso"] = torso
    make = partial(RECIPES[recipe].make, **options)
    if last:
        make = partial(make, **{name: other_float(value) for name, value in float_options(make).items()})
    return Subject(make, env, env.default_params, spec=spec(env, env.default_params))


def vmaps(tested):
    """Over seeds and over tracers for floats at once, from a first state to an updated one; traced, not run."""
    state, observation, trajectory = tested.shapes
    keys = jax.random.split(tested.key, 3)
    floats = {name: jnp.full(3, value) for name, value in tested.floats.items()}
    over = jax.vmap(tested.over_floats, in_axes=(0, 0, None, None))
    found = jax.eval_shape(over, keys, floats, observation, trajectory)
    expected = jax.tree.map(lambda x: ((3, *x.shape), x.dtype), state)
    for part in ("init", "update"):
        assert jax.tree.map(lambda x: (x.shape, x.dtype), found[part]) == expected
    assert {leaf.shape for leaf in jax.tree.leaves(found["metrics"])} == {(3,)}


def vmaps_with_a_transformer(tested):
    """The same with another torso, one whose parts are normalised and dropped."""
    make = partial(tested.make_agent, torso=TRANSFORMER)
    vmaps(Subject(make, tested.env, tested.params, spec=tested.spec))


def learns_one_thing_on_two_devices(tested):
    """Two devices, as a ``vmap``, whose environments pay differently: all but ``per_env`` stays the same on both."""
    first, trajectory = tested.experience.states[0], tested.experience.trajectory
    pair = lambda x, y: jax.tree.map(lambda x, y: jnp.stack([x, y]), x, y)  # noqa: E731
    trajectories = pair(trajectory, trajectory._replace(reward=1.0 - 0.5 * trajectory.reward))
    update = jax.jit(jax.vmap(tested.agent.update, axis_name=across.AXIS))
    states = pair(first, first)
    for _ in range(1 + tested.make_agent.keywords.get("delay", 0)):  # a late gradient moves nothing at first
        states, _ = update(jax.random.split(tested.key, 2), states, trajectories)
    for path, leaf in jax.tree_util.tree_leaves_with_path(states):
        where = jax.tree_util.keystr(path)
        assert ".per_env" in where or (to_numpy(leaf)[0] == to_numpy(leaf)[1]).all(), where
    moved = jax.tree.map(lambda new, old: (np.asarray(new)[0] != np.asarray(old)).any(), states.params, first.params)
    assert any(jax.tree.leaves(moved))


def takes_an_empty_trajectory_or_refuses_it_by_name(tested):
    """As in a stage of rollout length 0: a recipe with a replay can learn from that."""
    state, _, trajectory = tested.shapes
    empty = jax.tree.map(lambda x: jax.ShapeDtypeStruct((0, *x.shape[1:]), x.dtype), trajectory)
    try:
        updated, _ = jax.eval_shape(tested.agent.update, tested.key, state, empty)
    except ValueError as error:
        assert str(error).startswith("trajectory: got 0 steps of 2 environments") and "rollout_length" in str(error)
    else:
        assert jax.tree.map(lambda x: (x.shape, x.dtype), updated) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
        assert tested.make_agent.func not in (ppo, pqn, sarsa, alphazero, muzero, mpc)


TRANSFORMER = Transformer(width=4, mlp_ratio=1, dropout=0.5)
TRACED = {
    **{name: PROPERTIES[name] for name in ("speaks_contract", "keeps_state", "keeps_environments_apart")},
    "vmaps": vmaps,
}
# Rows of a recipe that has another row, with the same networks.
SAME_NETWORKS = ("reinforce_plain", "alphazero_game", "mbve_sac", "dqn_hindsight", "td3_hindsight")
SAME_NETWORKS += ("a2c_rewarded", "dqn_rewarded", "ppo_preferring", "dqn_preferring")
COMPILED = {
    **PROPERTIES,
    "learns_one_thing_on_two_devices": learns_one_thing_on_two_devices,
    "takes_an_empty_trajectory_or_refuses_it_by_name": takes_an_empty_trajectory_or_refuses_it_by_name,
}


def properties(recipe, environment):
    """The tests of a recipe in an environment, by name."""
    last = environment == RECIPES[recipe].environments[-1]
    # Options that matter for continuous actions alone are tried with those in every environment.
    tests = COMPILED if last else TRACED
    # As tokens of pixels in one recipe, as tokens of numbers in all.
    with_a_torso = isinstance(ENVIRONMENTS[environment][1], (MLP, Conv)) and recipe not in SAME_NETWORKS
    takes_a_transformer = with_a_torso and (last or (recipe, environment) == ("ppo", "image"))
    tests = {**tests, "vmaps_with_a_transformer": vmaps_with_a_transformer} if takes_a_transformer else tests
    return {name: test for name, test in tests.items() if name not in RECIPES[recipe].exempt}


CASES = {
    f"{recipe}-{environment}-{name}": (recipe, environment, test)
    for recipe in RECIPES
    for environment in RECIPES[recipe].environments
    for name, test in properties(recipe, environment).items()
}


@pytest.mark.parametrize(("recipe", "environment", "test"), CASES.values(), ids=CASES)
def test_conformance(recipe, environment, test):
    test(subject(recipe, environment))


def test_every_recipe_has_a_row_that_traces_its_options():
    traced = {
        getattr(row.make, "func", row.make).__name__ for row in RECIPES.values() if "options_matter" not in row.exempt
    }
    # The memory that world_models is fed depends on its options, so that they can't be varied in one environment.
    assert {*agents.__all__} - traced == {"world_models"}


def test_nothing_is_learned_from_an_empty_replay():
    env = probes.DiscountProbe()
    agent = dqn(spec(env, env.default_params), torso=MLP(hidden=(4,)), **{**TARGETED, "learning_starts": 0})
    tested = Subject(lambda spec: agent, env, env.default_params, spec=spec(env, env.default_params), rollout_length=0)
    _, _, trajectory = tested.shapes
    state = agent.init(tested.key, 2)
    updated, metrics = agent.update(tested.key, state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), trajectory))
    assert jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), updated.learner, state.learner))
    assert all(jnp.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize(
    "recipe",
    [
        name
        for name in RECIPES
        if not {"continuous", "point", "remembered", "planned_box", "plan_remembered", "numbers"}
        & {*RECIPES[name].environments}
        and not name.startswith("world_models")
    ],
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
