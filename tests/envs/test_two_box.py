"""TwoBox: the rules against plain Python, and every level against a perfect solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxrl import envs
from jaxrl.envs.foresight.two_box import TwoBoxState
from jaxrl.runs.pictures import Recorded, draw_episodes

B = 128
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))


def cells(bits):
    return {divmod(i, 5) for i in range(25) if int(bits) >> i & 1}


def bits(places):
    return jnp.uint32(sum(1 << (5 * row + column) for row, column in places))


def moved(walls, boxes, player, move):
    """The rules of Sokoban on sets of (row, column): the boxes and the player after a move."""
    inside = lambda place: 0 <= place[0] < 5 and 0 <= place[1] < 5  # noqa: E731
    ahead, beyond = ((player[0] + n * MOVES[move][0], player[1] + n * MOVES[move][1]) for n in (1, 2))
    if not inside(ahead) or ahead in walls:
        return boxes, player
    if ahead in boxes:
        if not inside(beyond) or beyond in walls or beyond in boxes:
            return boxes, player
        boxes = boxes - {ahead} | {beyond}
    return boxes, ahead


def solution(walls, targets, boxes, player):
    """The fewest moves to the end, by breadth-first search; None where there is none."""
    frontier, seen, moves = [(frozenset(boxes), player)], set(), 0
    while frontier:
        if any(boxes == targets for boxes, _ in frontier):
            return moves
        seen.update(frontier)
        following = {moved(walls, boxes, player, move) for boxes, player in frontier for move in range(4)}
        frontier, moves = [position for position in following if position not in seen], moves + 1
    return None


def levels(num=256, seed=0, num_pulls=12, **settings):
    env, params = envs.make("TwoBox", num_pulls=num_pulls, **settings)
    states = jax.jit(jax.vmap(lambda key: env.reset(key, params)[1]))(jax.random.split(jax.random.key(seed), num))
    return [jax.tree.map(lambda x, i=i: x[i], jax.device_get(states)) for i in range(num)]


def solutions(states):
    return [solution(cells(s.walls), cells(s.targets), cells(s.boxes), *cells(s.player)) for s in states]


@pytest.mark.parametrize("held_out", [False, True])
def test_every_level_can_be_solved(held_out):
    states = levels(held_out=held_out)
    lengths = solutions(states)
    assert None not in lengths and min(lengths) >= 1
    # Measured: quartiles 6, 11, 14 and at most 26 moves, far below the limit of 50 steps.
    assert np.percentile(lengths, 25) >= 4 and 8 <= np.median(lengths) <= 13 and max(lengths) <= 40
    for s in states:
        assert len(cells(s.targets)) == len(cells(s.boxes)) == 2 and len(cells(s.player)) == 1
        assert not cells(s.walls) & (cells(s.targets) | cells(s.boxes) | cells(s.player))
        assert not cells(s.boxes) & cells(s.player)


def test_no_level_is_in_both_sets():
    plans = [{(int(s.walls), int(s.targets)) for s in levels(4096, seed, held_out=seed == 1)} for seed in (0, 1, 2)]
    assert not plans[0] & plans[1] and not plans[2] & plans[1]
    assert plans[0] & plans[2], "levels of one set do repeat"


def test_more_pulls_make_longer_solutions():
    means = [np.mean(solutions(levels(64, num_pulls=n))) for n in (1, 12)]
    assert means[0] < 5 and means[1] > means[0] + 4


def test_the_rules_are_sokoban_s():
    env, params = envs.make("TwoBox", max_steps_in_episode=30)
    reset, step = jax.jit(jax.vmap(env.reset, (0, None))), jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    observation, state = reset(jax.random.split(jax.random.key(0), B), params)
    actions = np.random.default_rng(0).integers(0, 4, (60, B), np.int32)
    ends = pushes = 0
    for t, action in enumerate(actions):
        before = jax.device_get(state)
        keys = jax.random.split(jax.random.key(t + 1), B)
        observation, state, reward, terminated, truncated, info = jax.device_get(step(keys, state, action, params))
        for b in range(B):
            walls, targets, boxes = (cells(x[b]) for x in (before.walls, before.targets, before.boxes))
            (player,) = cells(before.player[b])
            after, player = moved(walls, boxes, player, action[b])
            solved = after == targets
            paid = -0.1 + len(after & targets) - len(boxes & targets) + 10.0 * solved
            np.testing.assert_allclose(reward[b], paid, rtol=1e-6)
            assert terminated[b] == solved == info["success"][b] and truncated[b] == (before.time[b] == 29)
            planes = np.zeros((7, 7, 4), np.float32)
            planes[[0, 6], :, 0] = planes[:, [0, 6], 0] = 1.0
            for plane, places in enumerate((walls, targets, after, {player})):
                for row, column in places:
                    planes[row + 1, column + 1, plane] = 1.0
            np.testing.assert_array_equal(info["final_observation"][b], planes)
            ends, pushes = ends + solved, pushes + (after != boxes)
    assert ends > 10 and pushes > 250


def test_a_box_in_a_corner_can_t_be_saved():
    walls, targets, boxes, player = set(), {(0, 3), (3, 3)}, {(0, 1), (3, 3)}, (0, 2)
    assert solution(walls, targets, boxes, player) is not None
    after = moved(walls, boxes, player, 3)
    assert after == ({(0, 0), (3, 3)}, (0, 1)) and solution(walls, targets, *after) is None


def test_it_keeps_the_protocol():
    env, params = envs.make("TwoBox")
    report = envs.check(env, params)
    assert report.terminated >= 5 and report.truncated > 50 and report.weak_types == ()
    with pytest.raises(ValueError, match="num_pulls: got 0"):
        envs.make("TwoBox", num_pulls=0)
    with pytest.raises(TypeError, match="held_out: got 1"):
        envs.make("TwoBox", held_out=1)


def test_texts_and_pictures(tmp_path):
    env, params = envs.make("TwoBox")
    places = ({(0, 0)}, {(1, 1), (2, 2)}, {(2, 2), (3, 1)}, {(1, 1)})
    state = TwoBoxState(jnp.int32(0), *map(bits, places))
    assert env.text(state) == "#######\n##    #\n# +   #\n#  *  #\n# $   #\n#     #\n#######"
    assert env.text(state._replace(player=bits({(4, 4)}))).split("\n")[2] == "# .   #"
    draw_episodes(tmp_path / "a.gif", env, params, [Recorded([state, state, state], np.ones(3))])
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 3
        colors = set(map(tuple, np.asarray(gif.convert("RGB")).reshape(-1, 3)))
    assert {(60, 140, 90), (200, 150, 80), (220, 60, 60)} <= colors
