"""Signals on single decisions: the simulated trainer, COACH and TAMER."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import feedback, losses
from jaxrl.envs import probes, spec
from jaxrl.networks import MLP
from jaxrl.types import Transition

KEY = jax.random.key(1)
T, B = 12, 3
PROBE = probes.ObservationActionProbe()
DESCRIBED = spec(PROBE, PROBE.default_params)


def right(steps):
    """The action that the probe pays for: 1 where the observation is above 0."""
    return jnp.where((steps.action == 1) == (steps.observation[..., 0] > 0), 1.0, -1.0)


def trajectory(seed, reward=0.0, end=0.2):
    keys = jax.random.split(jax.random.key(seed), 3)
    observation = jnp.sign(jax.random.normal(keys[0], (T, B, 1)))
    action = jax.random.randint(keys[1], (T, B), 0, 2)
    ended = jax.random.bernoulli(keys[2], end, (T, B))
    return Transition(
        observation, action, jnp.full((T, B), reward), 1.0 - ended, ended, jnp.zeros((T, B), bool), observation
    )


def heard(trainer, num_rollouts):
    """Signals of consecutive rollouts as one ``[n T, B]``, the verdicts, and the last state."""
    state, said, verdicts = trainer.init(KEY, B), [], []
    for seed in range(num_rollouts):
        steps = trajectory(seed)
        signals, state = trainer.signals(state, steps)
        np.testing.assert_array_equal(signals.given, signals.value != 0.0)
        said.append(np.asarray(signals.value))
        verdicts.append(np.asarray(right(steps)))
    return np.concatenate(said), np.concatenate(verdicts), state


@pytest.mark.parametrize("delay", [0, 3, T + 2])
def test_signals_are_late_by_their_delay_over_rollouts_too(delay):
    said, verdicts, state = heard(feedback.trainer(right, num_signals=10_000, delay=delay), 3)
    np.testing.assert_array_equal(said[delay:], verdicts[: len(verdicts) - delay])
    assert not said[:delay].any() and state.used == (said != 0).sum()


def test_signals_are_sparse_and_wrong_at_their_rates_and_differ_by_seed():
    trainer = feedback.trainer(right, num_signals=10_000, rate=0.4, mistake=0.25)
    said, verdicts, _ = heard(trainer, 40)
    given = said != 0
    np.testing.assert_allclose(given.mean(), 0.4, atol=0.04)
    np.testing.assert_allclose((said == -verdicts)[given].mean(), 0.25, atol=0.05)
    other, _ = trainer.signals(trainer.init(jax.random.key(5), B), trajectory(0))
    assert (np.asarray(other.value) != said[:T]).any()


def test_a_trainer_falls_silent_after_its_last_signal():
    said, verdicts, state = heard(feedback.trainer(right, num_signals=50), 3)
    np.testing.assert_array_equal(said.ravel()[:50], verdicts.ravel()[:50])
    assert not said.ravel()[50:].any() and state.used == 50


def test_nothing_is_said_where_the_judge_is_silent():
    silent = feedback.trainer(lambda steps: jnp.where(steps.action == 1, 1.0, 0.0))
    signals, _ = silent.signals(silent.init(KEY, B), trajectory(0))
    np.testing.assert_array_equal(signals.given, trajectory(0).action == 1)


@pytest.mark.parametrize(("delay", "trace"), [(0, 0.0), (2, 0.0), (0, 0.5), (2, 0.7)])
def test_coach_gives_each_decision_the_traced_signals_up_to_the_end_of_its_episode(delay, trace):
    model = feedback.coach(feedback.trainer(right, delay=delay), delay=delay, trace=trace)
    steps = trajectory(3, reward=jnp.nan)
    state = model.init(KEY, B)
    found = model.reward(KEY, state, steps)
    verdict = np.asarray(right(steps)).copy()
    verdict[T - delay :] = 0.0  # still to come
    expected = np.zeros((T, B))
    for t in reversed(range(T)):
        later = np.where(steps.terminated[t], 0.0, expected[t + 1]) if t + 1 < T else 0.0
        expected[t] = verdict[t] + trace * later
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    new, metrics = model.update(jax.random.key(9), state, steps)
    assert metrics["signals"] == (T - delay) * B and new.trainer.rollouts == 1


def test_a_reward_and_its_update_hear_the_same_signals():
    model = feedback.coach(feedback.trainer(right, rate=0.3, mistake=0.3))
    state = model.init(KEY, B)
    for seed in range(3):
        reward = model.reward(jax.random.key(seed), state, trajectory(seed))
        before = state.trainer.used
        state, _ = model.update(jax.random.key(100 + seed), state, trajectory(seed))
        assert state.trainer.used - before == (reward != 0.0).sum() > 0


def test_the_loss_is_the_signal_times_the_log_probability():
    class Policy:
        def log_prob(self, action):
            return jnp.array([-1.0, -2.0])

        def entropy(self):
            return jnp.array([0.5, 0.7])

    class Outputs:
        policy = Policy()

    steps = Transition(0, 0, jnp.array([3.0, -1.0]), 0, 0, 0, 0)
    batch = losses.Batch(steps, 0, jnp.zeros(2), jnp.full(2, jnp.nan), jnp.nan, jnp.nan)
    loss, metrics = feedback.as_advantage(Outputs(), batch, losses.Settings(entropy_coef=0.1))
    assert loss == pytest.approx(-(3.0 * -1.0 + -1.0 * -2.0) / 2 - 0.1 * 0.6) and metrics["entropy"] == pytest.approx(
        0.6
    )


def test_tamer_regresses_signals_on_the_decisions_that_they_are_about():
    model = feedback.tamer(
        DESCRIBED, feedback.trainer(right, num_signals=200, rate=0.5, delay=2), delay=2, torso=MLP(hidden=(16,)),
        learning_rate=3e-2, num_gradient_steps=30,
    )  # fmt: skip
    state = model.init(KEY, B)
    assert not model.reward(KEY, state, trajectory(50)).any()
    update = jax.jit(model.update)
    for seed in range(6):
        state, metrics = update(jax.random.key(seed), state, trajectory(seed, reward=jnp.nan))
    rows = int(state.heard)
    assert 0 < rows < metrics["signals"]  # those about the last two steps of a rollout are lost
    judged = Transition(state.observation[:rows], state.action[:rows], 0, 0, 0, 0, 0)
    np.testing.assert_array_equal(state.signal[:rows], right(judged))
    np.testing.assert_allclose(model.reward(KEY, state, trajectory(50)), right(trajectory(50)), atol=0.25)


@pytest.mark.parametrize("kind", ["coach", "tamer"])
@pytest.mark.parametrize("recipe", [jaxrl.reinforce, jaxrl.a2c])
def test_a_policy_is_learned_from_signals_alone(kind, recipe):
    """200 signals, a tenth of them wrong; the environment pays NaN."""
    trainer = feedback.trainer(right, num_signals=200, rate=0.5, mistake=0.1)
    regressed = partial(feedback.tamer, learning_rate=1e-2, torso=MLP(hidden=(8,)))
    model = feedback.coach(trainer) if kind == "coach" else regressed(DESCRIBED, trainer)
    agent = recipe(DESCRIBED, torso=MLP(hidden=(8,)), loss=feedback.as_advantage, learning_rate=3e-2)
    agent = jaxrl.with_reward(agent, model)

    @partial(jax.jit, static_argnames="explore")
    def run(key, explore=False):
        state = jaxrl.train(key, agent, PROBE, PROBE.default_params, num_steps=1600, num_envs=4, rollout_length=8)[0]
        seen = jnp.array([[1.0], [-1.0]])
        return agent.act(key, state.agent, seen, explore=explore)[0], state.agent.reward_model

    action, model_state = run(KEY)
    assert action.tolist() == [1, 0] and model_state.trainer.used == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"judge": 3}, "judge: got 3"),
        ({"rate": 2.0}, "rate: got 2"),
        ({"mistake": -1.0}, "mistake: got -1"),
        ({"delay": -1}, "delay: got -1"),
        ({"num_signals": 0}, "num_signals: got 0"),
    ],
)
def test_wrong_flaws_of_trainers_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        feedback.trainer(**{"judge": right, **options})
