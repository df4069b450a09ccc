"""AlphaZero at the command line: what a run fills in, its parts, and its continuation."""

import jax
import numpy as np

from jaxrl.agents import alphazero
from jaxrl.cli.flags import parse
from jaxrl.runs.building import Given, build
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import load, restore
from jaxrl.runs.notices import chance

SMALL = ["--num-simulations", 4, "--num-envs", 4, "--rollout-length", 8, "--batch-size", 8, "--learning-starts", 8]
SMALL += ["--torso.hidden", 8, "--replay-capacity", 64, "--eval-episodes", 0]


def test_a_run_plans_in_its_game_and_is_resumed(jaxrl, tmp_path):
    arguments = ["train", "alphazero", "pgx/tic_tac_toe", "--search", "puct", "--search.temperature-steps", 4, *SMALL]
    # Annealing would depend on where the run was to end.
    arguments += ["--no-anneal-learning-rate"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, steps in ((whole, 128), (cut, 64)):
        assert jaxrl(*arguments, "--steps", steps, "--out", folder).code == 0
    config = RunFolder(whole).read_config()
    assert (config.parts["search"].name, config.parts["search"].settings["temperature_steps"]) == ("puct", 4)
    built = build(config)
    assert built.spec.observation.env_state is not None
    told = {}

    def recording(spec, **options):
        told.update(options)
        return alphazero(spec, **options)

    recording.fills = alphazero.fills
    build(config, Given(recipe=recording))
    assert told["symmetries"] is not None and told["model"].num_players == 2
    assert jaxrl("resume", cut, "--steps", 128, "--eval-episodes", 0).code == 0
    states = [restore(folder)[2].agent for folder in (whole, cut)]
    assert (np.asarray(states[0].gradient_steps) > 0).all()
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
    agent, state = load(whole)
    observation, _ = jax.vmap(built.env.reset, in_axes=(0, None))(jax.random.split(jax.random.key(0), 2), built.params)
    action, _ = agent.act(jax.random.key(0), state, observation, explore=False)
    assert action.shape == (2,)


def test_a_search_in_a_random_simulator_is_told_about():
    told = {
        name: chance(parse([recipe, name])[0])
        for recipe, name in (("alphazero", "pgx/backgammon"), ("alphazero", "pgx/hex"), ("dqn", "Breakout-MinAtar"))
    }
    assert "outcomes in pgx/backgammon are random" in told["pgx/backgammon"]
    assert told["pgx/hex"] == told["Breakout-MinAtar"] == ""
