"""MuZero: its search beside AlphaZero's, its loss beside a plain loop, known values, batches, refusals."""

import importlib
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl import agents, envs, rollout
from jaxrl.agents.alphazero import make_network as alphazero_network
from jaxrl.agents.parts import planning
from jaxrl.agents.parts.functions import functions
from jaxrl.agents.players.random_player import random_player
from jaxrl.envs.probes import DiscountProbe, TruncationProbe
from jaxrl.networks import MLP
from jaxrl.ops.distributional import Bins
from jaxrl.replay import uniform, unrolls
from jaxrl.search import PolicyOutput
from jaxrl.search.tree import new_tree
from jaxrl.training.loop import train
from jaxrl.types import Observation

muzero = importlib.import_module("jaxrl.agents.muzero")
GAME, PARAMS = envs.make("pgx/tic_tac_toe")
ENV = envs.expose_state(GAME)


class TrueNetwork:
    """h, g and f of tic-tac-toe itself, with AlphaZero's evaluation: hidden states are those of the simulator.

    As a trained dynamics network should, it never ends: behind the end of a game rewards and values are 0.
    """

    def __init__(self, bins):
        self.bins, self.model = bins, envs.simulator(ENV, PARAMS)
        self.evaluation = alphazero_network(envs.spec(GAME, PARAMS), MLP((16,)), bounded=True)

    def init(self, key, observation, action):
        return self.evaluation.init(key, observation)

    def apply(self, params, *args, method, rngs=None):
        return getattr(self, method)(params, *args)

    def represent(self, params, observation):
        over = jnp.zeros(observation.features.shape[0], bool)
        return observation._replace(env_state=(observation.env_state, over))

    def step(self, params, hidden, action):
        state, over = hidden.env_state
        stepped = jax.vmap(self.model.step, (None, None, 0, 0))((), jax.random.key(0), state, action)
        mask = stepped.observation.action_mask
        kept = Observation(
            stepped.observation.features, mask, env_state=(stepped.state, over | (stepped.discount == 0))
        )
        return kept, jnp.log(self.bins.encode(jnp.where(over, 0.0, stepped.reward)))

    def predict(self, params, hidden):
        seen = hidden._replace(env_state=None)
        logits, value = planning.evaluate(self.evaluation, params, seen)
        return logits, jnp.log(self.bins.encode(jnp.where(hidden.env_state[1], 0.0, value)))


@lru_cache
def boards(num=16):
    """Positions of random games, after 0 to 6 moves."""
    player = random_player(envs.spec(ENV, PARAMS))

    @jax.jit
    def play(key):
        observation, env_state = rollout.reset(key, ENV, PARAMS, num)

        def move(carry, key):
            observation, state = carry
            keys = jax.random.split(key, 1 + num)
            state, observation, _ = rollout.step(keys, player, (), ENV, PARAMS, state, observation, True)
            return (observation, state), observation

        return jax.lax.scan(move, (observation, env_state), jax.random.split(key, 6))[1]

    seen = play(jax.random.key(0))
    return jax.tree.map(lambda x: x[np.arange(num) % 6, np.arange(num)], seen)


@pytest.mark.parametrize("search", ["gumbel", "puct"])
def test_the_search_with_a_true_model_is_alphazeros(monkeypatch, search):
    monkeypatch.setattr(muzero, "make_network", lambda spec, torso, num_bins: TrueNetwork(Bins.of_range(20)))
    visits = []

    def watched(*args, **options):
        found = planning.SEARCHES[search](*args, **options)
        visits.append(found.search_tree.summary().visit_counts)
        return found

    spec, settings = envs.spec(ENV, PARAMS), {"search": watched, "num_simulations": 24, "replay_capacity": 400}
    learned = agents.muzero(spec, num_players=2, gamma=1.0, **settings)
    true = agents.alphazero(
        spec, model=envs.simulator(ENV, PARAMS), torso=MLP((16,)), learning_starts=100, batch_size=16, **settings
    )
    state, observation = true.init(jax.random.key(0), 16), boards()
    acted = [agent.act(jax.random.key(1), state, observation)[0] for agent in (learned, true)]
    np.testing.assert_array_equal(*visits)
    np.testing.assert_array_equal(*acted)
    assert len(np.unique(np.asarray(visits[0]), axis=0)) > 8


def plain_loss(network, bins, params, unroll, num_steps, value_coef):
    """Eq. 1 step by step and sample by sample, gradients halved where g begins."""
    represent, predict, step = (
        jax.jit(partial(network.apply, method=method)) for method in ("represent", "predict", "step")
    )

    def cross_entropy(logits, target):
        return -(target * jax.nn.log_softmax(logits)).sum()

    total, count = 0.0, unroll.action.shape[1]
    for n in range(count):
        state = represent(params, unroll.observation[n : n + 1])
        for k in range(num_steps + 1):
            scale = 1.0 if k == 0 else 1.0 / num_steps
            policy, value = predict(params, state)
            if unroll.inside[k, n]:
                total += scale * cross_entropy(policy[0], unroll.policy[k, n])
            if unroll.known[k, n]:
                total += scale * value_coef * cross_entropy(value[0], bins.encode(unroll.value[k, n]))
            if k == num_steps:
                break
            halved = 0.5 * state + 0.5 * jax.lax.stop_gradient(state)
            state, reward = step(params, halved, unroll.action[k, n : n + 1])
            if unroll.known[k, n]:
                total += cross_entropy(reward[0], bins.encode(unroll.reward[k, n])) / num_steps
    return total / count


def no_search(key, params, root, recurrent_fn, num_simulations, invalid_actions, *, explore, bounded, steps):
    """Any action, and the network's own value, in a tree without children: for what needs no search."""
    del params, recurrent_fn, num_simulations, invalid_actions, explore, bounded, steps
    uniform = jnp.full_like(root.prior_logits, 1.0 / root.prior_logits.shape[-1])
    action = jax.random.categorical(key, jnp.log(uniform)).astype(jnp.int32)
    return PolicyOutput(action, uniform, new_tree(root, uniform, 1))


def with_values_of_today(network, bins, params, unroll):
    """The unroll whose returns end in the network's values of the observations behind them."""

    @jax.jit
    def value_of(observation):
        hidden = network.apply(params, observation, method="represent")
        return bins.decode(network.apply(params, hidden, method="predict")[1])[0]

    value = np.array(unroll.value)
    for k, n in np.ndindex(*value.shape):
        observation = jax.tree.map(lambda x: x[k, n : n + 1], unroll.bootstrap.observation)  # noqa: B023
        value[k, n] += unroll.bootstrap.weight[k, n] * value_of(observation)
    return unroll._replace(value=jnp.asarray(value))


def test_a_gradient_step_is_that_of_a_plain_loop(kit):
    spec, steps, batch = kit.specs["discrete"], 2, 4
    agent = agents.muzero(
        spec,
        torso=kit.torso,
        search=no_search,
        unroll_steps=steps,
        n_step=2,
        gamma=0.9,
        support_size=4,
        value_coef=0.3,
        optimizer=optax.sgd,
        learning_rate=0.5,
        max_grad_norm=None,
        batch_size=batch,
        num_gradient_steps=1,
        learning_starts=0,
        replay_capacity=64,
    )
    first = agent.init(jax.random.key(0), 2)
    trajectory = kit.trajectory_of(agent, first, spec)
    key = jax.random.key(5)
    update = jax.jit(agent.update)
    state, metrics = update(key, first, trajectory)
    assert update(key, first._replace(steps=jnp.int32(2**31 - 2)), trajectory)[0].steps == 2**31 - 1, "it stops there"
    network, bins = muzero.make_network(spec, kit.torso, 9), Bins.of_returns(4)
    targets = {"unroll_steps": steps, "n_step": 2, "gamma": 0.9, "fresh": True}
    buffer = unrolls.along(uniform(64, n_step=1, gamma=0.9), **targets)
    unroll = jax.jit(lambda state: buffer.sample(jax.random.split(key)[0], state, batch))(state.per_env)
    assert float(jnp.abs(unroll.bootstrap.weight).max()) > 0.5
    unroll = with_values_of_today(network, bins, first.params, unroll)
    assert not unroll.inside.all() and unroll.inside.any(axis=1).all(), "the batch has ends in it"
    loss, gradient = jax.value_and_grad(lambda params: plain_loss(network, bins, params, unroll, steps, 0.3))(
        first.params
    )
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    expected = jax.tree.map(lambda x, g: x - 0.5 * g, first.params, gradient)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), state.params, expected)
    assert kit.norm(kit.difference(state.params, first.params)) > 0.01


@pytest.mark.parametrize(
    ("probe", "reanalyze_values"),
    [(DiscountProbe(), False), (TruncationProbe(), True)],
    ids=["terminates", "truncates"],
)
def test_values_are_the_returns(probe, reanalyze_values):
    params = probe.default_params
    options = {"torso": MLP((32,)), "gamma": 0.9, "n_step": 2, "support_size": 5, "search": no_search}
    options["reanalyze_values"] = reanalyze_values
    training = {"learning_rate": 5e-3, "batch_size": 64, "replay_capacity": 256, "learning_starts": 64}
    agent = agents.muzero(envs.spec(probe, params), unroll_steps=3, num_gradient_steps=8, **options, **training)
    value, solution = functions(agents.muzero, envs.spec(probe, params), **options).value, probe.solution(0.9)

    @jax.jit
    def run(key):
        state, _ = train(key, agent, probe, params, num_steps=150 * 128, num_envs=16, rollout_length=8)
        return value(state.agent, solution.observations)

    np.testing.assert_allclose(run(jax.random.key(0)), solution.values, rtol=0.03, atol=0.03)


def test_a_permuted_batch_gives_permuted_plans():
    agent = agents.muzero(envs.spec(GAME, PARAMS), num_players=2, torso=MLP((16,)), num_simulations=8, gamma=1.0)
    observation = boards()._replace(env_state=None)
    state, order = agent.init(jax.random.key(0), 16), np.random.default_rng(0).permutation(16)
    act = jax.jit(lambda observation: agent.act(jax.random.key(0), state, observation, explore=False))
    action, searched = act(observation)
    permuted, searched_permuted = act(jax.tree.map(lambda x: x[order], observation))
    np.testing.assert_array_equal(permuted, action[order])
    np.testing.assert_allclose(searched_permuted.value, searched.value[order], rtol=1e-5, atol=1e-6)
    assert np.take_along_axis(np.asarray(observation.action_mask), np.asarray(action)[:, None], 1).all()
    assert not np.asarray(searched.policy)[~np.asarray(observation.action_mask)].any()


def test_hidden_states_lie_in_the_unit_range_and_a_board_stays_one():
    spec = envs.spec(GAME, PARAMS)
    network = muzero.make_network(spec, None, 3)
    params = jax.jit(network.init)(jax.random.key(0), spec.zeros(1), jnp.zeros(1, jnp.int32))
    hidden = jax.jit(partial(network.apply, method="represent"))(params, boards()._replace(env_state=None))
    step = jax.jit(partial(network.apply, method="step"))
    after, reward = step(params, hidden, jnp.arange(16) % 9)
    assert hidden.shape == after.shape == (16, 9 * 4) and reward.shape == (16, 3)
    for states in (hidden, after):
        np.testing.assert_allclose([states.min(-1), states.max(-1)], [np.zeros(16), np.ones(16)], atol=1e-6)
    # The action reaches the next state.
    other, _ = step(params, hidden, (jnp.arange(16) + 1) % 9)
    assert (np.abs(other - after).max(axis=-1) > 1e-3).all()


def test_bad_arguments_are_named():
    spec = envs.spec(GAME, PARAMS)
    for name, value in {"num_players": 3, "unroll_steps": 0, "n_step": 0, "support_size": 0, "gamma": 1.5}.items():
        with pytest.raises(ValueError, match=rf"^{name}: got {value}"):
            agents.muzero(spec, **{name: value})
    with pytest.raises(ValueError, match=r"^num_updates: .*None"):
        agents.muzero(spec, anneal_learning_rate=True)
    with pytest.raises(ValueError, match=r"^search: got 'uct', must be gumbel or puct"):
        agents.muzero(spec, search="uct")
    treeless = agents.muzero(
        spec, search=lambda *args, **options: no_search(*args, **options)._replace(search_tree=None)
    )
    shapes = jax.eval_shape(treeless.init, jax.random.key(0))
    with pytest.raises(TypeError, match=r"^search: .*search_tree"):
        jax.eval_shape(treeless.act, jax.random.key(0), shapes, spec.zeros(2))
