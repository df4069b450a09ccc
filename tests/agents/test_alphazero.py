"""AlphaZero: tactics as both players, illegal moves, outcomes, symmetries, time limits in the search, warm-up."""

import inspect
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import agents, envs, losses, rollout, search
from jaxrl.agents.alphazero import as_batch
from jaxrl.agents.parts import planning
from jaxrl.agents.parts.functions import functions
from jaxrl.envs.probes import DiscountProbe, TruncationProbe
from jaxrl.networks import MLP
from jaxrl.replay import outcomes
from jaxrl.search import models
from jaxrl.training.loop import train
from jaxrl.types import Observation

GAME, PARAMS = envs.make("pgx/tic_tac_toe")
ENV = envs.expose_state(GAME)
SMALL = {
    "torso": MLP(hidden=(8,)),
    "num_simulations": 8,
    "replay_capacity": 400,
    "batch_size": 16,
    "learning_starts": 20,
}


def make(env=ENV, params=PARAMS, **options):
    return agents.alphazero(envs.spec(env, params), **{"model": envs.simulator(env, params), **SMALL, **options})


@lru_cache
def positions():
    """Boards after the moves of each row, for a batch."""
    lines = {
        "win for the first": ([0, 3, 1, 4], 2),
        "win for the second": ([0, 3, 1, 4, 8], 5),
        "block by the first": ([0, 3, 8, 4], 5),
        "block by the second": ([0, 4, 1], 2),
        "win rather than block": ([0, 3, 1, 4], 2),
    }
    step, found = jax.jit(ENV.step), {}
    for name, (moves, answer) in lines.items():
        observation, state = ENV.reset(jax.random.key(len(found)), PARAMS)  # either of pgx's players may be first
        for move in moves:
            observation, state, *_ = step(jax.random.key(0), state, move, PARAMS)
        found[name] = observation, answer
    return found


@pytest.mark.parametrize("search", ["gumbel", "puct"])
def test_wins_and_blocks_as_both_players_without_having_learned(search):
    # A network that knows nothing: what is found is found by the search, signs and ends included.
    # Halving decides on few visits, and without a network needs more of them.
    agent = make(search=search, num_simulations={"puct": 96, "gumbel": 320}[search])
    boards = positions()
    observation = jax.tree.map(lambda *x: jnp.stack(x), *(board for board, _ in boards.values()))
    state = agent.init(jax.random.key(0), len(boards))
    for key in range(2):
        action, policy = jax.jit(partial(agent.act, explore=False))(jax.random.key(key), state, observation)
        assert dict(zip(boards, action.tolist(), strict=True)) == {name: move for name, (_, move) in boards.items()}
        assert not np.asarray(policy)[~np.asarray(observation.action_mask)].any()


@lru_cache
def played(search, length=24, num=8):
    agent = make(search=search, symmetries=GAME.symmetries, learning_rate=1e-2)
    state = agent.init(jax.random.key(0), num)

    @jax.jit
    def play(key):
        observation, env_state = rollout.reset(key, ENV, PARAMS, num)
        return rollout.rollout(key, agent, state, ENV, PARAMS, env_state, observation, length)[2]

    return agent, state, play(jax.random.key(1))


@pytest.mark.parametrize("search", ["gumbel", "puct"])
def test_illegal_moves_are_never_played_nor_learned(search):
    _, _, trajectory = played(search)
    legal = np.asarray(trajectory.observation.action_mask)
    assert np.take_along_axis(legal, np.asarray(trajectory.action)[..., None], -1).all()
    assert not np.asarray(trajectory.extras)[~legal].any()
    np.testing.assert_allclose(trajectory.extras.sum(-1), 1.0, rtol=1e-5)
    assert trajectory.observation.env_state is None
    # A game has nine moves at most, and every row its own.
    ends = np.asarray(trajectory.terminated)
    assert len({tuple(np.flatnonzero(row)) for row in ends.T}) > 1


def test_outcomes_are_those_of_the_game_over_rollouts():
    agent, state, trajectory = played("puct")
    update = jax.jit(agent.update)
    reward, done = np.asarray(trajectory.reward), np.asarray(trajectory.terminated)
    for half in (slice(0, 10), slice(10, 24)):
        part = jax.tree.map(lambda x: x[half], trajectory)  # noqa: B023
        state, _ = update(jax.random.key(2), state, part)
    stored = state.per_env.transitions
    known = 0
    for b in range(8):
        ends = np.flatnonzero(done[:, b])
        for t in range(24):
            end = next((e for e in ends if e >= t), None)
            assert (end is not None) == (float(stored.discount[t, b]) == 0)
            if end is not None:
                known += 1
                # Who moved last won, or nobody did; the other player's moves alternate with these.
                sign = 1.0 if (end - t) % 2 == 0 else -1.0
                assert float(stored.reward[t, b]) == sign * reward[end, b]
    assert known > 100


def test_positions_that_are_lost_before_their_outcome_are_counted():
    # Three rows of each environment, and no game of tic-tac-toe is over in three moves.
    agent = make(replay_capacity=6, learning_starts=3)

    @jax.jit
    def run(key):
        return train(key, agent, ENV, PARAMS, num_steps=2 * 3 * 6, num_envs=2, rollout_length=3)[1]

    assert run(jax.random.key(0))["positions_lost"].tolist()[:2] == [0, 6]


def test_learning_waits_for_outcomes_and_then_learns_both():
    agent, state, trajectory = played("puct")
    update = jax.jit(agent.update)
    first = jax.tree.map(lambda x: x[:2], trajectory)
    waiting, metrics = jax.jit(agent.update)(jax.random.key(0), state, first)
    jax.tree.map(np.testing.assert_array_equal, waiting.params, state.params)
    assert int(metrics["positions"]) == 0
    assert int(waiting.gradient_steps) == int(metrics["gradient_steps"]) == 0
    value, policy = [], []
    for i in range(60):
        state, metrics = update(jax.random.key(i), state, trajectory)
        value.append(float(metrics["value_loss"]))
        policy.append(float(metrics["policy_kl"]))
    assert int(state.gradient_steps) == int(metrics["gradient_steps"]) == 240
    np.testing.assert_allclose(metrics["learning_rate"], 1e-2)
    # The policies of an untrained search are noise for the most part.
    assert policy[-1] < policy[0] - 0.05
    assert value[-1] < 0.85 * value[0]


def test_a_batch_is_turned_with_its_policy():
    agent, state, trajectory = played("puct")
    ring = jax.jit(agent.update)(jax.random.key(2), state, trajectory)[0].per_env
    drawn = outcomes.sample(jax.random.key(0), ring, outcomes.counts(ring), 64)
    batch = as_batch(jax.random.key(1), drawn, GAME.symmetries, bounded=True)
    turned = (np.asarray(batch.policy) != np.asarray(drawn.policy)).any(-1)
    assert 32 < turned.sum() < 64
    assert not np.asarray(batch.policy)[~np.asarray(batch.observation.action_mask)].any()
    # A stone lies where nothing is legal.
    np.testing.assert_array_equal(
        np.asarray(batch.observation.features).any(-1).reshape(64, 9), ~np.asarray(batch.observation.action_mask)
    )
    np.testing.assert_array_equal(batch.target, drawn.outcome)


def test_temperature_ends_where_it_is_told():
    # After the first move the most visited one: given the board, the key decides nothing.
    agent = make(search=partial(planning.puct, temperature_steps=1, dirichlet_fraction=0.0), num_simulations=24)
    state = agent.init(jax.random.key(0), 64)
    observation, env_state = rollout.reset(jax.random.key(0), ENV, PARAMS, 64)
    first, _ = jax.jit(agent.act)(jax.random.key(1), state, observation)
    assert len(set(first.tolist())) > 3
    step = jax.vmap(ENV.step, in_axes=(0, 0, 0, None))
    observation, *_ = step(jax.random.split(jax.random.key(2), 64), env_state, jnp.zeros(64, jnp.int32), PARAMS)
    second, policy = jax.jit(agent.act)(jax.random.key(3), state, observation)
    np.testing.assert_array_equal(second, policy.argmax(-1))


@pytest.mark.parametrize("search", ["gumbel", "puct"])
def test_a_time_limit_inside_of_the_search_is_worth_what_is_seen_last(search):
    env = TruncationProbe()
    exposed = envs.expose_state(env)
    model = envs.simulator(exposed, env.default_params)
    _, state = env.reset(jax.random.key(0), env.default_params)
    for t in range(env.default_params.max_steps_in_episode - 1):
        state = model.step((), jax.random.key(t), state, jnp.int32(0)).state
    last = model.step((), jax.random.key(9), state, jnp.int32(0))
    assert bool(last.truncated)

    def network(params, observation):
        seen = observation.features if isinstance(observation, Observation) else observation
        value = jnp.where(jnp.all(seen == last.observation.features[None], axis=-1), 5.0, -100.0)
        return jnp.zeros((value.shape[0], 2)), value

    one = jax.tree.map(lambda x: x[None], state)
    params = models.Params((), ())
    root = models.root(network, params, one, last.observation.features[None])
    step = models.recurrent_fn(model, network, 0.9)
    found = planning.SEARCHES[search](
        jax.random.key(0), params, root, step, 40, None, explore=False, bounded=False, steps=jnp.zeros(1)
    )
    # Every path goes through the cut, and what lies behind it must not be the next episode's -100.
    summary = found.search_tree.summary()
    expected = float(last.reward) + 0.9 * 5.0
    np.testing.assert_allclose(summary.qvalues[0][np.asarray(summary.visit_counts[0]) > 0], expected, rtol=1e-5)
    assert int(found.search_tree.depths().max()) > 2


@pytest.mark.parametrize(
    ("probe", "n_step"), [(DiscountProbe(), None), (TruncationProbe(), None), (TruncationProbe(), 2)]
)
def test_values_of_one_player_are_the_returns(probe, n_step):
    env, params = envs.expose_state(probe), probe.default_params
    options = {
        "gamma": 0.9,
        "n_step": n_step,
        "torso": MLP(hidden=(16,)),
        "num_simulations": 4,
        "learning_rate": 5e-3,
        "batch_size": 64,
        "replay_capacity": 512,
        "learning_starts": 64,
        "num_gradient_steps": 8,
    }
    agent, solution = make(env, params, **options), probe.solution(0.9)
    model = envs.simulator(env, params)
    value = functions(agents.alphazero, envs.spec(env, params), model=model, **options).value

    @jax.jit
    def run(key):
        state, _ = train(key, agent, env, params, num_steps=200 * 128, num_envs=16, rollout_length=8)
        return value(state.agent, solution.observations)

    np.testing.assert_allclose(run(jax.random.key(0)), solution.values, rtol=0.02, atol=0.02)


def test_functions_know_the_range_of_the_value():
    """By the model or by ``bounded``: with neither, the value of a game would be read as an unbounded one."""
    env, params = envs.make("pgx/tic_tac_toe")
    env = envs.expose_state(env)
    spec, model = envs.spec(env, params), envs.simulator(env, params)
    with pytest.raises(TypeError, match="model: got None.*bounded"):
        functions(agents.alphazero, spec)
    state = agents.alphazero(spec, model=model, torso=MLP(hidden=(4,))).init(jax.random.key(0))
    seen = spec.zeros(2)
    by_model = functions(agents.alphazero, spec, model=model, torso=MLP(hidden=(4,))).value(state, seen)
    by_hand = functions(agents.alphazero, spec, bounded=True, torso=MLP(hidden=(4,))).value(state, seen)
    np.testing.assert_array_equal(by_model, by_hand)


def test_any_function_is_a_search_and_any_loss_a_loss():
    def first_legal(key, params, root, recurrent_fn, num_simulations, invalid_actions, *, explore, bounded, steps):
        del key, params, recurrent_fn, explore, bounded, steps
        assert num_simulations == 8
        weights = jax.nn.one_hot(jnp.argmin(invalid_actions, axis=-1), invalid_actions.shape[-1])
        return planning.PolicyOutput(jnp.argmin(invalid_actions, axis=-1), weights, None)

    def value_alone(outputs, batch, settings):
        assert isinstance(batch, losses.Planned)
        return losses.value(outputs, batch, settings)

    agent = make(search=first_legal, loss=value_alone, learning_starts=1)
    state = agent.init(jax.random.key(0), 2)
    observation, env_state = rollout.reset(jax.random.key(0), ENV, PARAMS, 2)
    *_, trajectory = rollout.rollout(jax.random.key(1), agent, state, ENV, PARAMS, env_state, observation, 10)
    assert trajectory.action[:7, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    _, metrics = agent.update(jax.random.key(2), state, trajectory)
    assert float(metrics["value_loss"]) > 0
    assert "policy_loss" not in metrics


@pytest.mark.parametrize(
    ("search", "settings"),
    [
        (
            planning.puct,
            {
                "temperature": 0.5,
                "temperature_steps": 3,
                "dirichlet_fraction": 0.5,
                "dirichlet_alpha": 1.0,
                "pb_c_init": 2.0,
            },
        ),
        (planning.gumbel, {"max_num_considered_actions": 4, "gumbel_scale": 0.5, "value_scale": 1.0}),
    ],
)
def test_settings_of_the_searches_matter(search, settings):
    observation, _ = rollout.reset(jax.random.key(0), ENV, PARAMS, 2)

    def program(**options):
        agent = make(search=partial(search, **options))
        state = jax.eval_shape(partial(agent.init, num_envs=2), jax.random.key(0))
        act = jax.make_jaxpr(agent.act)(jax.random.key(0), state, observation)
        return str(act), [np.asarray(const).tobytes() for const in act.consts]

    settings_of_search = {
        name for name, given in inspect.signature(search).parameters.items() if given.default is not given.empty
    }
    assert settings_of_search == set(settings)
    assert program() == program()
    for name, value in settings.items():
        assert program(**{name: value}) != program(), name
    # And each float may be a tracer.
    floats = {name: value for name, value in settings.items() if isinstance(value, float)}
    agent = lambda given: make(search=partial(search, **given))  # noqa: E731
    jax.eval_shape(
        lambda given: agent(given).act(jax.random.key(0), agent(given).init(jax.random.key(0), 2), observation), floats
    )


def visits_as_weights(*arguments):
    found = search.puct(*arguments)
    return found._replace(action_weights=found.search_tree.children_visits[:, 0])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="search: got 'uct', must be gumbel or puct"):
        make(search="uct")
    for other in (search.puct, partial(planning.puct, dirichlet_alhpa=1.0)):
        with pytest.raises(TypeError, match="search: got .*, must take .*explore, bounded, steps"):
            make(search=other)
    with pytest.raises(TypeError, match="model: got 3, must be .*envs.simulator"):
        make(model=3)
    with pytest.raises(ValueError, match="num_simulations: got 0"):
        make(num_simulations=0)
    with pytest.raises(ValueError, match="n_step: got 0"):
        make(n_step=0)
    with pytest.raises(ValueError, match=r"learning_starts: got 20, must be at most half of .* 5 for each of 2 env"):
        make(replay_capacity=10).init(jax.random.key(0), 2)
    observation, _ = rollout.reset(jax.random.key(0), ENV, PARAMS, 2)
    for found, message in (((1, 2), "returned a tuple"), (visits_as_weights, "returned action_weights")):
        agent = make(search=lambda *arguments, found=found, **_: found(*arguments) if callable(found) else found)
        with pytest.raises((TypeError, ValueError), match=f"search: {message}"):
            agent.act(jax.random.key(0), agent.init(jax.random.key(0), 2), observation)
    for name, value in (("temperature", -1.0), ("temperature_steps", -1)):
        agent = make(search=partial(planning.puct, **{name: value}))
        observation, _ = rollout.reset(jax.random.key(0), ENV, PARAMS, 2)
        with pytest.raises(ValueError, match=f"{name}: got -1"):
            jax.eval_shape(lambda key: agent.act(key, agent.init(key, 2), observation), jax.random.key(0))  # noqa: B023
    agent = make()
    plain, _ = rollout.reset(jax.random.key(0), GAME, PARAMS, 2)
    with pytest.raises(ValueError, match=r"wrap the environment: envs.expose_state\(env\)"):
        agent.act(jax.random.key(0), agent.init(jax.random.key(0), 2), plain)
