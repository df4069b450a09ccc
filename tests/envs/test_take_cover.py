"""TakeCover: what falls when, who survives, and what a delayed cue takes from those who don't remember it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxrl import envs
from jaxrl.envs.foresight.take_cover import EMPTY, REACH, RELOAD, SIZE, STAY
from jaxrl.runs.pictures import Recorded, draw_episodes

B, T = 64, 500


def play(name, policy, num_steps=T):
    """Plays ``policy(key, observation, state)`` in B environments; leaves ``[T, B, ...]``, states before each step."""
    env, params = envs.make(name)

    def body(carry, key):
        act_key, step_key = jax.random.split(key)
        action = jax.vmap(policy)(jax.random.split(act_key, B), *carry)
        step = jax.vmap(env.step, (0, 0, 0, None))
        observation, state, *outcome, info = step(jax.random.split(step_key, B), carry[1], action, params)
        return (observation, state), (*carry, action, *outcome, info["final_observation"])

    @jax.jit
    def run(key):
        first = jax.vmap(env.reset, (0, None))(jax.random.split(key, B), params)
        return jax.lax.scan(body, first, jax.random.split(key, num_steps))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def lives(name, policy):
    """The length of the first episode of each environment."""
    _, _, _, _, terminated, truncated, _ = play(name, policy)
    return np.argmax(terminated | truncated, axis=0) + 1


def flee(burning, player):
    """One step towards the nearest column that doesn't burn."""
    columns = jnp.arange(SIZE)
    goal = jnp.argmin(jnp.where(burning, 1000, abs(columns - player)))
    return jnp.sign(goal - player).astype(jnp.int32) + STAY


def knowing(key, observation, state):
    """Flees from the fireball that lands next, seen or not."""
    is_fire = state.incoming != EMPTY
    column = jnp.where(is_fire.any(), state.incoming[jnp.argmax(is_fire)], EMPTY)
    return flee(abs(jnp.arange(SIZE) - column) <= REACH, state.player)


def seeing(key, observation, state):
    """Flees from the lowest fire in the image, and stays where there is none."""
    fire = observation[: SIZE - 1, :, 0] > 0.0
    lowest = fire[SIZE - 2 - jnp.argmax(fire.any(1)[::-1])]
    return jnp.where(fire.any(), flee(lowest, jnp.argmax(observation[SIZE - 1, :, 0])), STAY)


def blind(key, observation, state):
    return jax.random.randint(key, (), 0, 3)


@pytest.mark.parametrize("cue_delay", [0, 2, 8])
def test_fireballs_fall_as_in_plain_python(cue_delay):
    """Images, hits and time limits of 200 random steps against lists of fireballs [age, column]."""
    env, params = envs.make("TakeCover", cue_delay=cue_delay, max_steps_in_episode=60)
    observed, states, actions, reward, terminated, truncated, final = play_limited(env, params)
    assert (reward == 1.0).all() and terminated.sum() > 50 and truncated.sum() > 5
    flight = 15 if cue_delay == 0 else max(cue_delay + 1, 7)
    for b in range(8):
        falling, time = [], 0
        for t in range(observed.shape[0]):
            image = np.zeros((16, 16), np.float32)
            for age, column in falling:
                row = 0 if age == 0 else 15 - (flight - age)
                if cue_delay == 0 or age == 0 or age >= cue_delay:
                    image[row, max(column - 3, 0) : max(column + 4, 0)] = 0.5
            image[15, states.player[t, b]] = 1.0
            np.testing.assert_array_equal(observed[t, b, :, :, 0], image)
            player = min(max(states.player[t, b] + actions[t, b] - 1, 0), 15)
            falling = [(age + 1, column) for age, column in falling]
            landed = [column for age, column in falling if age == flight]
            falling, time = [(age, column) for age, column in falling if age < flight], time + 1
            assert terminated[t, b] == any(abs(column - player) <= 3 for column in landed)
            assert truncated[t, b] == (time == 60)
            assert (final[t, b, 15, :, 0] == (np.arange(16) == player)).all()
            if terminated[t, b] or truncated[t, b]:
                falling, time = [], 0
            elif t + 1 < observed.shape[0] and states.incoming[t + 1, b, -1] != EMPTY:
                falling.append((0, int(states.incoming[t + 1, b, -1])))


def play_limited(env, params):
    reset, step = jax.jit(jax.vmap(env.reset, (0, None))), jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    actions = np.random.default_rng(0).integers(0, 3, (200, B), np.int32)
    observation, state = reset(jax.random.split(jax.random.key(0), B), params)
    rows = []
    for t, action in enumerate(actions):
        keys = jax.random.split(jax.random.key(t + 1), B)
        after, next_state, *outcome, info = step(keys, state, action, params)
        rows.append((observation, state, action, *outcome, info["final_observation"]))
        observation, state = after, next_state
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def test_where_and_how_often_fireballs_start():
    _, states, *_ = play("TakeCover", knowing)
    started = states.incoming[1:, :, -1] != EMPTY
    columns = states.incoming[1:, :, -1][started]
    counts = np.bincount(columns + REACH, minlength=SIZE + 2 * REACH)
    assert len(counts) == 22 and abs(counts / len(columns) - 1 / 22).max() < 4 * np.sqrt(1 / 22 / len(columns))
    gaps = np.concatenate([np.diff(np.nonzero(started[:, b])[0]) for b in range(B)])
    assert gaps.min() == RELOAD
    # Seven steps, and a geometric wait of mean (1 - 0.2) / 0.2.
    np.testing.assert_allclose(gaps.mean(), 11.0, atol=0.3)


@pytest.mark.parametrize(("name", "at_sight"), [("TakeCover", 500), ("TakeCover-8", 200)])
def test_whoever_knows_survives_and_whoever_is_blind_lives_short(name, at_sight):
    assert (lives(name, knowing) == 500).all()
    random = lives(name, blind).mean()
    assert 30 < random < 80
    still = lives(name, lambda key, observation, state: jnp.int32(STAY)).mean()
    assert 30 < still < 80, "standing still is no better"
    # Of seven late fireballs three can be dodged at sight. Measured: 76 steps.
    assert 1.2 * random < lives(name, seeing).mean() <= at_sight


@pytest.mark.parametrize("name", ["TakeCover", "TakeCover-8"])
def test_it_keeps_the_protocol(name):
    env, params = envs.make(name)
    report = envs.check(env, params)
    assert report.terminated > 20 and report.weak_types == () and env.name == name
    seen, _ = env.reset(jax.random.key(0), params)
    assert seen.shape == (16, 16, 1) and seen.dtype == jnp.float32
    assert envs.check(env, params.replace(max_steps_in_episode=10)).truncated > 100


@pytest.mark.parametrize(("cue_delay", "error"), [(-1, ValueError), (2.5, TypeError)])
def test_a_wrong_delay_is_refused(cue_delay, error):
    with pytest.raises(error, match=f"cue_delay: got {cue_delay}"):
        envs.make("TakeCover", cue_delay=cue_delay)


def test_texts_and_pictures(tmp_path):
    env, params = envs.make("TakeCover-8")
    _, state = env.reset(jax.random.key(0), params)
    state = state._replace(player=jnp.int32(2), incoming=state.incoming.at[jnp.array([0, 3, 8])].set([1, 9, 14]))
    lines = env.text(state).split("\n")
    assert (lines[0], lines[11], lines[14], lines[15]) == (" " * 11 + "ooooo", "", "ooooo", "  A")
    picture = env.picture(state)
    assert (picture[11, 6:13] != picture[11, 5]).any(-1).all(), "a spectator sees what is hidden"
    draw_episodes(tmp_path / "a.gif", env, params, [Recorded([state, state], np.ones(2))])
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 2
        colors = set(map(tuple, np.asarray(gif.convert("RGB")).reshape(-1, 3)))
    assert {(90, 220, 120), (255, 120, 30)} <= colors
