"""Every example runs, and does what it says, at a small budget."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    module_spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def test_quickstart_learns():
    assert load("quickstart").main(num_steps=25_000, num_seeds=2) > 150


def test_auxiliary_loss_falls():
    first, last = load("auxiliary_loss").main(num_steps=20_000)
    assert last < 0.2 * first


def test_sweep_tells_values_apart():
    means = load("sweep").main(num_steps=20_000, num_seeds=2)
    assert means.argmax() > 0 and means.max() > 1.4 * means[0]


def test_stops_when_solved():
    assert 5 <= load("stop_when_solved").main(num_steps=100_000, threshold=100.0) < 100_000 // 512


def test_own_loop_learns():
    first, last = load("own_loop").main(num_updates=60)
    assert last > 2 * first


def test_custom_environment_is_solved():
    # From cells 0 to 2 of 8, by jumps from even cells: 4 steps or fewer, so at least 1 - 4 * 0.05.
    assert load("custom_environment").main() > 0.79


def test_hindsight_reaches_goals_that_dqn_alone_does_not(tmp_path):
    picture = tmp_path / "curves.png"
    last = load("hindsight").main(num_bits=12, num_steps=25_000, num_seeds=1, out=str(picture))
    assert last["with hindsight"] > 0.6 and last["without"] < 0.05
    assert picture.stat().st_size > 10_000


def test_several_devices_learn_as_one():
    assert load("several_devices").main(num_steps=40_000) > 150


def test_self_play_rarely_loses_to_random_moves():
    won, _, lost = load("self_play").main(num_steps=8_192, num_games=128)
    assert won > 0.8 and lost < 0.1  # of random players each side loses 44%


def test_asynchronous_workers_and_late_gradients_learn(tmp_path):
    picture = tmp_path / "a3c.png"
    found = load("asynchrony").main(num_steps=40_000, num_seeds=1, workers=(1, 2), delays=(0, 4), out=str(picture))
    assert len(found) == 4 and min(found.values()) > 60
    assert picture.stat().st_size > 10_000


def test_memory_is_what_the_t_maze_asks_for():
    right = load("memory").main(num_steps=40_000, num_seeds=1)
    # Of 128 turns: guesses are right in half of them, within 4 standard deviations.
    assert 0.32 < right["MLP"] < 0.68
    assert right["GRU"] > 0.95


def test_ppo_learns_in_a_dream_what_it_needs_in_the_real_environment():
    returns = load("dream").main(num_real=4_000, num_dreamt=40_000)
    assert returns["PPO after the dream"] > 150 > 4 * returns["random actions"]
    assert returns["PPO before the dream"] < 75


def test_plans_in_a_learned_ensemble_become_those_in_the_simulator():
    true, first, last = load("planning").main(num_steps=1_400, num_episodes=4)
    assert true > -300 and first < -700 and last > -400  # single episodes: none is above -400 with random actions


def test_every_example_is_tested():
    source = Path(__file__).read_text()
    missing = [path.stem for path in EXAMPLES.glob("*.py") if f'load("{path.stem}")' not in source]
    assert not missing


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_say_what_they_show(path):
    assert path.read_text().startswith('"""')


def test_preferences_are_enough_for_cartpole():
    episode_return, accuracy = load("preferences").main(num_steps=20_000)
    assert episode_return > 100 and accuracy > 0.75


def test_a_model_from_a_file_scores_and_answers(tmp_path):
    """A tiny model with random weights in place of the real one: to it no text is likely."""
    golden = Path(__file__).parent / "text" / "golden" / "llama"
    folder = shutil.copytree(golden, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 256}
    (folder / "config.json").write_text(json.dumps(config))
    found = load("language_model").main(str(folder))
    chance = -np.log(config["vocab_size"])
    assert abs(found["fluent"] - chance) < 4.0 and abs(found["shuffled"] - chance) < 4.0
    assert found["fluent"] != found["shuffled"] and isinstance(found["answer"], str)


def test_a_language_model_learns_a_taste():
    first, last = load("text_rl").main(num_updates=40, num_letters=2, width=16, learning_rate=1e-2)
    assert first < 0.4 and last > 0.8  # 1 is the most: one vowel, and an end
