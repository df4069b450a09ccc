"""The configuration: what is written is read back, and nothing else is."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxrl.runs.building import build
from jaxrl.runs.config import Chosen, ConfigError, RunConfig, Sweep

from .conftest import make_config, mlp


def edited(config, **changes):
    return json.dumps({**json.loads(config.to_json()), **changes})


def stage(**changes):
    agent = {"recipe": "a2c", "parts": {}, "hyperparameters": {}}
    return {**agent, "num_updates": 2, "rollout_length": 4, "hand_over": {}, **changes}


def test_json_round_trip(config):
    config = dataclasses.replace(config, sweep=Sweep.grid({"gamma": (0.9, 0.99)}), init_from="/some/run")
    assert RunConfig.from_json(config.to_json()) == config


def test_built_from_json_it_has_a_hashable_torso(config):
    built = build(RunConfig.from_json(config.to_json()))
    state = jax.eval_shape(built.make_agent().init, jax.random.key(0))
    widths = {leaf.shape[-1] for leaf in jax.tree.leaves(state.params)}
    assert 8 in widths


def test_a_file_from_before_there_were_devices_is_of_one(config):
    older = {name: value for name, value in json.loads(config.to_json()).items() if "devices" not in name}
    assert RunConfig.from_json(json.dumps(older)) == config
    assert "devices" not in config.identity()  # nor do its checkpoints know of them


def test_identity_is_all_but_the_length_the_origin_and_the_devices(config):
    longer = dataclasses.replace(config, num_steps=10**6, init_from="/some/run", devices=8)
    assert longer.identity() == config.identity()
    assert dataclasses.replace(config, seeds=5).identity() != config.identity()
    assert dataclasses.replace(config, parts={"torso": mlp(9)}).identity() != config.identity()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipy": 1}, "field 'recipy' is unknown to this version of jaxrl, did you mean 'recipe'"),
        ({"format_version": 99}, "got format_version 99, must be 2"),
        ({"seeds": "two"}, "field 'seeds' must be int, got 'two'"),
        ({"seeds": True}, "field 'seeds' must be int, got True"),
        ({"parts": 3}, "field 'parts' must be"),
        ({"parts": {"torso": 3}}, "parts, torso: expected an object"),
        (
            {"parts": {"torsi": {"name": "mlp", "settings": {}}}},
            "part 'torsi' is unknown to .*, did you mean 'torso'",
        ),
        (
            {"parts": {"torso": {"name": "mlp", "settings": {"hidden": [8]}}}},
            "setting of torso missing: activation",
        ),
        ({"parts": {"torso": {"name": "mpl", "settings": {}}}}, "unknown torso 'mpl', did you mean 'mlp'"),
        ({"recipe": "pppo"}, "unknown recipe 'pppo', did you mean 'ppo'"),
        ({"sweep": {"names": ["gamma"]}}, "sweep: field missing: values"),
        ({"sweep": {"names": ["gamma"], "values": [[0.9, 1.0]]}}, "field 'sweep' must have a value for each name"),
        ({"sweep": {"names": ["gamma"], "values": []}}, "field 'sweep' must have a value for each name"),
        ({"sweep": {"names": ["gamma"], "values": [["x"]]}}, "field 'values' must have .*, got ..'x'.."),
        ({"sweep": {"name": "gamma", "values": [[0.9]]}}, "field 'values' must have .*, got ...0.9..."),
        ({"sweep": {"names": [3], "values": [[0.9]]}}, "field 'names' must have .*, got .3."),
        ({"chunks": [[5, 0]]}, "field 'chunks' must have .*, got ..5, 0.."),
        ({"chunks": [[-1, 3]]}, "field 'chunks' must have .*, got ..-1, 3.."),
        ({"chunks": [[5]]}, "field 'chunks' must have .*, got ..5.."),
        ({"chunks": ["5"]}, "field 'chunks' must have .*, got .'5'."),
        ({"chunks": [[5, 2.5]]}, "field 'chunks' must have .*, got ..5, 2.5.."),
        ({"stages": [stage(hand_over={"params": 3})]}, "field 'hand_over' must have .*, got {'params': 3}"),
        ({"stages": [stage(rollout_length=True)]}, "field 'rollout_length' must be int, got True"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(config, changes, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_json(edited(config, **changes))


def test_missing_fields_and_hyperparameters_are_named(config):
    data = json.loads(config.to_json())
    del data["num_envs"]
    with pytest.raises(ConfigError, match="field missing: num_envs"):
        RunConfig.from_json(json.dumps(data))
    data = json.loads(config.to_json())
    del data["hyperparameters"]["gamma"]
    data["hyperparameters"]["gamme"] = 0.9
    with pytest.raises(ConfigError, match="hyper-parameter 'gamme' is unknown.*did you mean 'gamma'"):
        RunConfig.from_json(json.dumps(data))
    with pytest.raises(ConfigError, match="not valid JSON"):
        RunConfig.from_json("{")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds: got 0, must be at least 1"),
        ({"num_envs": 0}, "num_envs: got 0"),
        ({"num_steps": 15}, "num_steps: got 15, must be at least"),
        ({"environment": "CartPole"}, "unknown environment"),
        ({"seed": 2**32}, "seed: got 4294967296, must lie in 0 to 4294967295"),
        ({"parts": {"torso": Chosen("mpl", {})}}, "unknown torso 'mpl', did you mean 'mlp'"),
        ({"parts": {"torso": Chosen("conv", {})}}, "Conv needs images"),
        ({"parts": {"torso": Chosen("mlp", {"activation": "rely"})}}, "activation: got 'rely'"),
        ({"parts": {"torso": Chosen("mlp", {"hidden": (4, 0)})}}, "torso.hidden: got 4 0, sizes must be at least 1"),
        ({"sweep": Sweep.grid({"gama": (0.9,)})}, "'gama' is no hyper-parameter of a2c, did you mean 'gamma'"),
        ({"sweep": Sweep.grid({"share_torso": (0.0,)})}, "'share_torso' is not a float"),
        ({"sweep": Sweep.grid({"gamma": (0.9, 2.0)})}, "gamma: got 2.0, must lie in"),
        ({"sweep": Sweep.grid({"gamma": (0.9, 0.9)})}, "gamma got 0.9; 0.9, the same value twice"),
        ({"sweep": Sweep.grid({"gamma": (float("nan"),)})}, "gamma got nan, must be finite"),
    ],
)
def test_values_are_checked_before_anything_is_compiled(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(dataclasses.replace(config, **changes))


def test_a_grid_has_every_combination_with_all_seeds(config):
    sweep = Sweep.grid({"gamma": (0.9, 0.99), "entropy_coef": (0.0, 0.1, 0.2)})
    config = dataclasses.replace(config, sweep=sweep)
    assert RunConfig.from_json(config.to_json()) == config and config.num_members == 12
    built = build(config)
    np.testing.assert_allclose(built.hyper["gamma"], np.repeat([0.9, 0.99], 6), rtol=1e-6)
    np.testing.assert_allclose(built.hyper["entropy_coef"], np.tile(np.repeat([0.0, 0.1, 0.2], 2), 2), rtol=1e-6)
    assert config.members()[11].label(sweep) == "seed 1 of gamma=0.99 entropy_coef=0.2"


def test_all_values_of_a_sweep_get_the_same_seeds(config):
    built = build(dataclasses.replace(config, sweep=Sweep.grid({"gamma": (0.9, 0.99)})))
    keys = np.asarray(jax.random.key_data(built.keys)).reshape(2, 2, -1)
    np.testing.assert_array_equal(keys[0], keys[1])
    np.testing.assert_allclose(built.hyper["gamma"], [0.9, 0.9, 0.99, 0.99], rtol=1e-6)
    expected = jax.random.key_data(jax.random.split(jax.random.key(3), 2))
    np.testing.assert_array_equal(keys[0], expected)


def test_annealing_is_over_the_budget(config):
    config = dataclasses.replace(config, hyperparameters={**config.hyperparameters, "anneal_learning_rate": True})
    assert build(config).num_updates == 640 // 16


def test_what_32_bits_cannot_count_is_refused_by_name():
    config = make_config(num_steps=16 * 2**31)
    with pytest.raises(ConfigError, match="num_steps: got 34359738368, .* 2147483648 updates, .* most 2147483647"):
        build(config)
    assert build(make_config(num_steps=16 * (2**31 - 1))).num_updates == 2**31 - 1
    config = make_config(recipe="dqn", parts={}, hyperparameters={"epsilon_steps": 2**31})
    with pytest.raises(ConfigError, match="epsilon_steps: got 2147483648, must be at most"):
        build(config)
