"""Tables: against a loop, an exact solution of a small random task, and FrozenLake's own probabilities."""

import importlib.util
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.misc.frozen_lake import FROZEN, START, EnvState, FrozenLake

from jaxrl.agents import expected_sarsa, q_learning, sarsa
from jaxrl.agents.presets import LOOP, preset
from jaxrl.envs import make, probes, spec
from jaxrl.training.loop import train
from jaxrl.types import Discrete, Observation, Spec, Transition

RECIPES = {"q_learning": q_learning, "sarsa": sarsa, "expected_sarsa": expected_sarsa}
recipes = pytest.mark.parametrize("recipe", RECIPES)
S, A, T, B = 4, 3, 6, 5
INDEX = jax.ShapeDtypeStruct((), jnp.int32)
MASKED = Observation(INDEX, jax.ShapeDtypeStruct((A,), jnp.bool_))


def load_solver():
    """benchmarks/frozen_lake.py, which is no part of the package."""
    path = Path(__file__).parents[2] / "benchmarks" / "frozen_lake.py"
    described = importlib.util.spec_from_file_location("frozen_lake", path)
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


solver = load_solver()


def random_rollouts(count, masked, seed=0):
    """Trajectories ``[T, B]`` that follow each other, few states, so that environments meet."""
    rng = np.random.default_rng(seed)

    def observed(states, mask):
        states = jnp.array(states, jnp.int32)
        return Observation(states, jnp.array(mask)) if masked else states

    for _ in range(count):
        states, following, actions = rng.integers(S, size=(3, T, B)) % [[[S]], [[S]], [[A]]]
        terminated, truncated = rng.random((2, T, B)) < 0.25
        mask = rng.random((2, T, B, A)) < 0.6
        mask[..., 0] = True
        yield Transition(
            observation=observed(states, mask[0]),
            action=jnp.array(actions, jnp.int32),
            reward=jnp.array(rng.normal(size=(T, B)), jnp.float32),
            discount=jnp.array(1.0 - terminated, jnp.float32),
            terminated=jnp.array(terminated),
            truncated=jnp.array(truncated),
            next_observation=observed(following, mask[1]),
        )


def greedy_probs(row, mask, epsilon):
    legal = np.flatnonzero(mask)
    probs = np.zeros(A)
    probs[legal] = epsilon / len(legal)
    probs[legal[np.argmax(row[legal])]] += 1.0 - epsilon
    return probs


class Loop:
    """The rules of the book, one environment after another."""

    def __init__(self, recipe, gamma, learning_rate, omega, initial_value):
        self.recipe, self.gamma, self.learning_rate, self.omega = recipe, gamma, learning_rate, omega
        self.q, self.visits = np.full((S, A), initial_value), np.zeros((S, A))
        self.waiting = [None] * B

    def target(self, step, next_action, epsilon):
        row, mask = self.q[step["next"]], step["mask"]
        if self.recipe == "q_learning":
            value = row[mask].max()
        elif self.recipe == "sarsa" and next_action is not None:
            value = row[next_action]
        else:
            value = greedy_probs(row, mask, epsilon) @ row
        return step["reward"] + self.gamma * step["discount"] * value

    def learn(self, pairs, epsilon):
        """From what all environments did at one moment, each with its next action (None where there is none)."""
        targets = {}
        for step, next_action in pairs:
            targets.setdefault((step["state"], step["action"]), []).append(self.target(step, next_action, epsilon))
        for entry, found in targets.items():
            self.visits[entry] += len(found)
            alpha = self.learning_rate / self.visits[entry] ** self.omega
            for _ in found:  # one after another, each to their mean
                self.q[entry] += alpha * (np.mean(found) - self.q[entry])

    def update(self, trajectory, epsilon):
        masked = isinstance(trajectory.observation, Observation)
        following = trajectory.next_observation.features if masked else trajectory.next_observation
        states = trajectory.observation.features if masked else trajectory.observation
        ended = np.asarray(trajectory.terminated | trajectory.truncated)
        for t in range(T):
            pairs = []
            for b in range(B):
                step = {
                    "state": int(states[t, b]),
                    "action": int(trajectory.action[t, b]),
                    "reward": float(trajectory.reward[t, b]),
                    "discount": float(trajectory.discount[t, b]),
                    "ended": ended[t, b],
                    "next": int(following[t, b]),
                    "mask": np.asarray(trajectory.next_observation.action_mask[t, b]) if masked else np.ones(A, bool),
                }
                if self.recipe != "sarsa":
                    pairs.append((step, None))
                    continue
                before, self.waiting[b] = self.waiting[b], step
                if before is not None:
                    pairs.append((before, None if before["ended"] else step["action"]))
            self.learn(pairs, epsilon)


@recipes
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize(("learning_rate", "omega"), [(0.3, 0.0), (1.0, 0.7)])
def test_against_a_loop(recipe, masked, learning_rate, omega):
    """Three rollouts, so that what waits at their ends is continued; epsilon is that of the steps seen before each."""
    described = Spec(MASKED if masked else INDEX, Discrete(A), S)
    options = {"gamma": 0.9, "learning_rate": learning_rate, "omega": omega, "initial_value": 0.5}
    agent = RECIPES[recipe](described, **options, epsilon_start=0.8, epsilon_end=0.2, epsilon_steps=3 * T * B)
    loop = Loop(recipe, **options)
    state, update = agent.init(jax.random.key(0), B), jax.jit(agent.update)
    for i, trajectory in enumerate(random_rollouts(3, masked)):
        state, metrics = update(jax.random.key(i), state, trajectory)
        np.testing.assert_allclose(metrics["epsilon"], 0.8 - 0.2 * i, rtol=1e-6)
        np.testing.assert_allclose(metrics["learning_rate"], learning_rate)
        loop.update(trajectory, 0.8 - 0.2 * i)
        np.testing.assert_allclose(state.params, loop.q, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(state.visits, loop.visits)
        assert state.steps == (i + 1) * T * B


class RandomTask:
    """Any state may follow any other; every step ends the task with a probability, so that all are started from."""

    default_params = None

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.probability = rng.dirichlet(np.ones(S), size=(S, A))
        self.reward, self.end = rng.normal(size=(S, A)), 0.1

    def action_space(self, params=None):
        return Discrete(A)

    def observation_space(self, params=None):
        return Discrete(S)

    def reset(self, key, params=None):
        state = jax.random.randint(key, (), 0, S, jnp.int32)
        return state, state

    def step(self, key, state, action, params=None):
        keys = jax.random.split(key, 3)
        row = jnp.array(self.probability, jnp.float32)[state, action]
        following = jax.random.choice(keys[0], S, p=row).astype(jnp.int32)
        terminated = jax.random.uniform(keys[1]) < self.end
        reward = jnp.array(self.reward, jnp.float32)[state, action]
        state = jnp.where(terminated, self.reset(keys[2])[0], following)
        return state, state, reward, terminated, jnp.bool_(False), {"final_observation": following}

    def solve(self, gamma, epsilon):
        """Action values of the best policy, or of the best among those that explore with epsilon: by iteration."""
        q = np.zeros((S, A))
        for _ in range(2000):
            v = np.array([greedy_probs(row, np.ones(A, bool), epsilon) @ row for row in q])
            q = self.reward + gamma * (1.0 - self.end) * self.probability @ v
        return q


@recipes
def test_converges_to_the_exact_values(recipe):
    """Q-learning to those of the best policy, though it acts at random; SARSA to those of the policy that acts."""
    task, gamma, epsilon = RandomTask(0), 0.9, 0.5
    options = {"epsilon_start": epsilon, "epsilon_end": epsilon, "gamma": gamma, "learning_rate": 1.0, "omega": 0.8}
    agent = RECIPES[recipe](spec(task), **options)

    @jax.jit
    @jax.vmap
    def run(key):
        return train(key, agent, task, None, num_steps=160_000, num_envs=16, rollout_length=10)[0].agent.params

    exact = task.solve(gamma, 0.0 if recipe == "q_learning" else epsilon)
    other = task.solve(gamma, epsilon if recipe == "q_learning" else 0.0)
    assert np.abs(exact - other).min() > 0.5, "the two answers must differ for the test to tell"
    np.testing.assert_allclose(run(jax.random.split(jax.random.key(1), 2)), np.stack([exact, exact]), atol=0.12)


class TestFrozenLake:
    def test_the_model_is_what_the_environment_does(self):
        """4,000 steps of each action in each place: shares within 5 deviations, nothing that the model rules out."""
        env, params = make("FrozenLake-misc")
        model = solver.model_of(env)
        np.testing.assert_allclose(model.probability.sum(-1), 1.0)

        @jax.jit
        @partial(jax.vmap, in_axes=(None, None, 0))
        def step(position, action, key):
            _, following, reward, terminated, _ = env.step_env(key, EnvState(time=0, position=position), action, params)
            return following.position, reward, terminated

        keys = jax.random.split(jax.random.key(0), 4000)
        for position in np.flatnonzero(np.isin(np.asarray(env.desc).reshape(-1), (START, FROZEN))):
            for action in range(4):
                following, reward, terminated = (np.asarray(x) for x in step(position, action, keys))
                shares = np.bincount(following, minlength=16) / len(keys)
                np.testing.assert_allclose(shares, model.probability[position, action], atol=0.04)
                assert set(np.flatnonzero(shares)) == set(np.flatnonzero(model.probability[position, action]))
                np.testing.assert_allclose(reward.mean(), model.reward[position, action], atol=0.04)
                np.testing.assert_array_equal(model.future[position, action, following] == 0.0, terminated)

    def test_the_best_value_is_the_known_one(self):
        """0.5420 at gamma 0.99 in the slippery 4 x 4 lake, and gamma^5 in six sure steps where nothing slips."""
        model = solver.model_of(FrozenLake())
        best = solver.value_iteration(model, 0.99)
        np.testing.assert_allclose(best[0], 0.5420, atol=1e-4)
        policy = solver.action_values(model, best, 0.99).argmax(1)
        np.testing.assert_allclose(solver.policy_values(model, policy, 0.99), best, atol=1e-10)
        assert solver.share_of_best(model, np.zeros(16, int)) < 0.1
        sure = solver.model_of(FrozenLake(is_slippery=False))
        np.testing.assert_allclose(solver.value_iteration(sure, 0.99)[0], 0.99**5)

    @recipes
    def test_is_solved(self, recipe):
        """By the preset, all seeds: within 2% of the best. SARSA prefers what is best for who goes on exploring."""
        env, params = make("FrozenLake-misc")
        options = preset(recipe, "FrozenLake-misc")
        loop = {name: options.pop(name) for name in LOOP}
        agent = RECIPES[recipe](spec(env, params), **options)

        @jax.jit
        @jax.vmap
        def policies(key):
            state, _ = train(key, agent, env, params, **loop)
            return agent.act(key, state.agent, jnp.arange(16), explore=False)[0]

        model = solver.model_of(env)
        shares = [solver.share_of_best(model, policy) for policy in policies(jax.random.split(jax.random.key(1), 4))]
        assert min(shares) >= 0.98
        assert max(shares) <= 1.0 + 1e-9


@recipes
class TestRefusals:
    def test_other_observations_by_name(self, recipe):
        with pytest.raises(TypeError, match=rf"spec: got observations float32\[1\], {recipe} .*single integer"):
            RECIPES[recipe](spec(probes.DiscountProbe()))
        with pytest.raises(TypeError, match=r"got observations int32\[4\]"):
            RECIPES[recipe](spec(*make("FourRooms-misc")))

    def test_unknown_numbers_of_states(self, recipe):
        unknown = Spec(INDEX, Discrete(A))
        with pytest.raises(ValueError, match="num_states: got None, .* needs it"):
            RECIPES[recipe](unknown)
        assert RECIPES[recipe](unknown, num_states=9).init(jax.random.key(0)).params.shape == (9, A)
        with pytest.raises(ValueError, match=f"num_states: got 3, must be at least {S}"):
            RECIPES[recipe](Spec(INDEX, Discrete(A), S), num_states=3)

    @pytest.mark.parametrize("options", [{"learning_rate": 1.5}, {"omega": 1.1}, {"initial_value": float("nan")}])
    def test_numbers_out_of_range(self, recipe, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            RECIPES[recipe](Spec(INDEX, Discrete(A), S), **options)
