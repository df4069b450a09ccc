"""With x64 on, environments, wrappers, networks and rollouts of this package stay float32. By shapes alone."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl import envs, networks, rollout
from jaxrl.types import Agent, Box, Discrete, Remembered


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def wide(tree):
    """The leaves of 64 bits."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return [f"{jax.tree_util.keystr(path)}: {x.dtype}" for path, x in found if getattr(x.dtype, "itemsize", 0) == 8]


def walked(env, params, memory=False):
    """A rollout of an environment whose agent does nothing of interest, by shapes."""
    action = envs.spec(env, params).action

    def act(key, state, observation, *, explore=True):
        num = jax.tree.leaves(observation)[0].shape[0]
        shape, dtype = ((num,), jnp.int32) if isinstance(action, Discrete) else ((num, *action.shape), jnp.float32)
        value = jnp.zeros(shape, dtype)
        return (Remembered(value, observation.memory) if memory else value), ()

    agent = Agent(init=lambda key, num_envs=1: (), act=act, update=lambda key, state, trajectory: (state, {}))

    def run(key):
        observation, env_state = rollout.reset(key, env, params, 3)
        return rollout.rollout(key, agent, (), env, params, env_state, observation, 2)

    return jax.eval_shape(run, jax.random.key(0))


OURS = {
    **{probe.__name__: probe for probe in envs.probes.PROBES},
    **{
        name: lambda name=name: envs.make(name)[0]
        for name in ("TMaze-3", "BitFlipping-3", "PointReach", "TakeCover-8", "TwoBox")
    },
    "indexed": lambda: envs.probes.Indexed(envs.probes.MaskedProbe()),
    "window": lambda: envs.window(envs.make("TMaze-3")[0], 2),
    "window of pixels": lambda: envs.window(envs.probes.ImageProbe(), 2),
    "time limit": lambda: envs.wrappers.time_limit(envs.make("PointReach")[0], 3),
    "exposed": lambda: envs.expose_state(envs.make("TMaze-3")[0]),
}


@pytest.mark.parametrize("name", OURS)
def test_environments_and_wrappers(name):
    env = OURS[name]()
    assert wide(walked(env, env.default_params)) == []


def test_memories():
    env = envs.remember(envs.make("TMaze-3")[0], networks.memory_of(networks.GRU(size=4)))
    assert wide(walked(env, env.default_params, memory=True)) == []


VECTOR, IMAGE, ROWS = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, 5), (2, 4, 4, 2), (2, 3, 5)))
MODULES = {
    "mlp": (networks.MLP((4,), layer_norm=True), VECTOR),
    "conv": (networks.Conv((4,), (4,)), IMAGE),
    "residual": (networks.Residual(4, 1), IMAGE),
    "transformer": (networks.Transformer(width=4), VECTOR),
    "gated": (networks.Transformer(width=4, gated=True, window=True), ROWS),
    "sinusoidal": (networks.Transformer(width=4, positions="sinusoidal"), IMAGE),
    "q": (networks.QNetwork(networks.MLP(), networks.ActionValueHead(3, dueling=True, noisy=True), 1), VECTOR),
    "gaussian": (networks.SquashedGaussianPolicy(networks.MLP(), 2, 1), VECTOR),
    "deterministic": (networks.DeterministicPolicy(networks.MLP(), 2, 1), VECTOR),
    "planner": (networks.PolicyValue(networks.MLP(), 3, 1, True), VECTOR),
    "critics": (networks.critic_ensemble(Discrete(3), networks.MLP(), 1), VECTOR),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int64, jnp.float64])
def test_networks_have_float32_parameters_and_outputs(name, dtype):
    module, x = MODULES[name]

    def run(key, x):
        params = module.init(key, x)
        outputs = module.apply(params, x, rngs={"noise": key})
        leaves = jax.tree.leaves(outputs, is_leaf=lambda leaf: hasattr(leaf, "sample"))
        numbers = [leaf.sample(seed=key) if hasattr(leaf, "sample") else leaf for leaf in leaves]
        return params, numbers

    assert wide(jax.eval_shape(run, jax.random.key(0), jax.ShapeDtypeStruct(x.shape, dtype))) == []


def test_actor_critics_quantiles_and_memories_are_float32():
    key, x = jax.random.key(0), jnp.zeros((2, 5), jnp.float32)
    for action in (Discrete(3), Box((2,), -1.0, 1.0)):
        network = networks.ActorCritic(networks.MLP(), networks.policy_head(action), False, True, 1, {})

        def outputs(network=network):
            params = network.init(key, x)
            given = network.apply(params, x)
            raw = given.policy.sample(seed=key)
            return params, raw, given.policy.log_prob(raw), given.policy.entropy(), given.value

        assert wide(jax.eval_shape(outputs)) == []
    head = networks.ImplicitQuantileHead(networks.ActionValueHead(3))
    quantiles = networks.QNetwork(networks.MLP(), head, 1)
    tau = jnp.zeros((2, 4), jnp.float32)
    assert wide(jax.eval_shape(lambda: quantiles.init_with_output(key, x, tau))) == []
    gru, memory = networks.GRU(size=4), jnp.zeros((2, 4), jnp.float32)
    reset = jnp.zeros((3, 2), bool)
    assert wide(jax.eval_shape(lambda: gru.init_with_output(key, jnp.zeros((3, 2, 5)), memory, reset))) == []
