"""The recipes of the page 'your own recipe': short, without private names, and right."""

import ast
import importlib.util
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrl
from jaxrl.cli.main import main
from jaxrl.networks import MLP
from jaxrl.types import Discrete, Spec, Transition

PAGE = (Path(__file__).parents[2] / "docs" / "add_an_agent.md").read_text()
CODE = PAGE.split("```python\n")[2].split("```")[0]
A, D, T, B = 3, 4, 8, 2
SPEC = Spec(jax.ShapeDtypeStruct((D,), jnp.float32), Discrete(A))
OPTIONS = {"torso": MLP((8,)), "learning_starts": 0, "batch_size": 16, "replay_capacity": 64, "gamma": 0.9}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The file of the page, imported as a module."""
    path = tmp_path_factory.mktemp("own") / "my_recipes.py"
    path.write_text(CODE)
    described = importlib.util.spec_from_file_location("my_recipes", path)
    module = importlib.util.module_from_spec(described)
    sys.modules["my_recipes"] = module
    described.loader.exec_module(module)
    yield module
    del sys.modules["my_recipes"]


def trajectory():
    rng = np.random.default_rng(0)
    seen, following = jnp.array(rng.normal(size=(2, T, B, D)), jnp.float32)
    ended = jnp.zeros((T, B), bool)
    action = jnp.array(rng.integers(A, size=(T, B)), jnp.int32)
    return Transition(seen, action, jnp.full((T, B), 0.5), jnp.ones((T, B)), ended, ended, following)


def test_it_is_short_and_knows_no_private_name():
    tree = ast.parse(CODE)
    prose = {
        line
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.FunctionDef)) and ast.get_docstring(node)
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = [line for i, line in enumerate(CODE.splitlines(), 1) if line.strip() and i not in prose]
    assert len(lines) <= 60
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} - {"_replace"}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not any(part.startswith("_") for name in names for part in name.split("."))


def test_munchausen_dqn_without_the_term_and_without_temperature_is_dqn(page):
    agents = page.munchausen_dqn(SPEC, **OPTIONS, alpha=0.0, temperature=1e-6), jaxrl.dqn(SPEC, **OPTIONS)
    states = []
    for agent in agents:
        state = agent.init(jax.random.key(0), B)
        for i in range(3):
            state, _ = jax.jit(agent.update)(jax.random.key(i), state, trajectory())
        states.append(state)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), *(state.params for state in states))


def test_the_munchausen_term_is_the_log_policy(page):
    """Without values the policy is uniform: the target is ``r - alpha tau log A + gamma tau log A``."""
    agent = page.munchausen_dqn(SPEC, **OPTIONS, alpha=0.9, temperature=0.1, optimizer=optax.sgd)
    state = agent.init(jax.random.key(0), B)
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    _, metrics = jax.jit(agent.update)(
        jax.random.key(1), state._replace(params=zeros, target_params=zeros), trajectory()
    )
    target = 0.5 + (0.9 - 0.9) * 0.1 * np.log(A)
    np.testing.assert_allclose(metrics["loss"], 0.5 * target**2, rtol=1e-5)
    half = page.munchausen_dqn(SPEC, **OPTIONS, alpha=0.45, temperature=0.1, optimizer=optax.sgd)
    _, metrics = jax.jit(half.update)(
        jax.random.key(1), state._replace(params=zeros, target_params=zeros), trajectory()
    )
    target = 0.5 + (0.9 - 0.45) * 0.1 * np.log(A)
    np.testing.assert_allclose(metrics["loss"], 0.5 * target**2, rtol=1e-5)


def test_the_bonus_falls_with_visits(page):
    """All of it at the first visit; after n visits of one cell it is divided by the root of 1 + n."""
    agent = page.curious_ppo(SPEC, torso=MLP((8,)), bonus=0.3)
    state = agent.init(jax.random.key(0), B)
    seen = trajectory()
    one_place = seen._replace(next_observation=jnp.ones_like(seen.next_observation))
    _, extras = agent.act(jax.random.key(1), state, seen.observation[0])
    one_place = one_place._replace(extras=jax.tree.map(lambda x: jnp.broadcast_to(x, (T, *x.shape)), extras))
    update = jax.jit(agent.update)
    for n in range(3):
        state, metrics = update(jax.random.key(n), state, one_place)
        np.testing.assert_allclose(metrics["learned_reward"], 0.5 + 0.3 / np.sqrt(1.0 + n * T * B), rtol=1e-5)
    assert metrics["reward_model_cells"] == 1


@pytest.mark.parametrize("name", ["munchausen_dqn", "curious_ppo"])
def test_they_train_and_their_options_are_checked(page, name):
    make = getattr(page, name)
    env, params = jaxrl.make("CartPole-v1")
    spec = jaxrl.spec(env, params)
    agent = make(spec)
    run = jax.jit(lambda key: jaxrl.train(key, agent, env, params, num_steps=512, num_envs=4, rollout_length=32)[1])
    assert np.isfinite(run(jax.random.key(0))["loss"]).all()
    with pytest.raises(TypeError, match="learning_rate"):
        make(spec, learning_rte=1e-3)
    with pytest.raises(ValueError, match="gamma: got 1.5"):
        make(spec, gamma=1.5)


@pytest.mark.parametrize("arguments", ["my_recipes:munchausen_dqn --alpha 0.8", "my_recipes:curious_ppo --bonus 0.5"])
def test_they_train_from_the_command_line(arguments, tmp_path, monkeypatch):
    (tmp_path / "my_recipes.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    recipe, flag, number = arguments.split()
    assert main(["train", recipe, "CartPole-v1", flag, number, "--steps", "2k", "--out", "run"]) == 0
    (run,) = [path for path in tmp_path.rglob("config.json")]
    assert recipe in run.read_text() and f'"{flag[2:]}": {number}' in run.read_text()
