"""The suite itself: a sound agent passes, and each property catches an agent that breaks it."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import make, probes, spec
from jaxrl.training import checks
from jaxrl.types import Agent

ENV = probes.DiscountProbe()
SPEC = spec(ENV, ENV.default_params)


class ToyState(NamedTuple):
    params: Any
    observation_statistics: Any
    updates: Any
    per_env: Any


def sound(
    spec,
    *,
    learning_rate: float = 0.1,
    decay: float | None = None,
    temperature: float = 1.0,
    num_steps: int = 2,
    bias: bool = False,
):
    """A linear policy that climbs its log-probability times the reward: small, and right."""

    def logits(params, statistics, observation):
        scaled = (observation - statistics[None]) @ params["kernel"]
        return (scaled + params["bias"][None] if bias else scaled) / temperature

    def init(key, num_envs=1):
        kernel = jax.random.normal(key, (1, spec.action.num_actions))
        params = {"kernel": kernel, "bias": jnp.zeros(spec.action.num_actions)}
        return ToyState(params, jnp.zeros(1), jnp.zeros((), jnp.int32), {"trace": jnp.zeros(num_envs)})

    def act(key, state, observation, *, explore=True):
        scores = logits(state.params, state.observation_statistics, observation)
        action = jax.random.categorical(key, scores) if explore else scores.argmax(-1)
        return action.astype(jnp.int32), scores

    def loss(params, state, trajectory):
        scores = logits(params, state.observation_statistics, trajectory.observation.reshape(-1, 1))
        chosen = jax.nn.log_softmax(scores) * jax.nn.one_hot(trajectory.action.reshape(-1), spec.action.num_actions)
        return -(chosen.sum(-1) * trajectory.reward.reshape(-1)).mean()

    def update(key, state, trajectory):
        params = state.params
        rate = learning_rate if decay is None else learning_rate / (1.0 + decay * state.updates)
        for _ in range(num_steps):
            params = jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params, state, trajectory))
        statistics = state.observation_statistics + 0.1 * trajectory.observation.mean((0, 1))
        trace = {"trace": state.per_env["trace"] + trajectory.reward.sum(0)}
        new = ToyState(params, statistics, state.updates + 1, trace)
        return new, {"loss": loss(params, state, trajectory)}

    return Agent(init, act, update)


def with_update(change):
    """A recipe whose new state is changed."""

    def make(spec):
        agent = sound(spec)

        def update(key, state, trajectory):
            new, metrics = agent.update(key, state, trajectory)
            return change(new, key), metrics

        return agent._replace(update=update)

    return make


def with_init(change):
    """A recipe whose first state is changed."""

    def make(spec):
        agent = sound(spec)
        return agent._replace(init=lambda key, num_envs=1: change(agent.init(key, num_envs), num_envs))

    return make


def with_act(act):
    """A recipe that acts by ``act(agent, key, state, observation, explore)``."""

    def make(spec):
        agent = sound(spec)
        acting = lambda key, state, observation, *, explore=True: act(agent, key, state, observation, explore)  # noqa: E731
        return agent._replace(act=acting)

    return make


def fixed_key(spec):
    agent = sound(spec)
    return agent._replace(init=lambda key, num_envs=1: agent.init(jax.random.key(0), num_envs))


def numbers_of_numpy(spec):
    rng = np.random.default_rng()
    change = lambda state, num_envs: state._replace(observation_statistics=jnp.asarray(rng.normal(size=1), jnp.float32))  # noqa: E731
    return with_init(change)(spec)


def branches_on_a_float(spec, *, learning_rate: float = 0.1):
    return sound(spec, learning_rate=learning_rate if learning_rate > 0 else 0.0)


def rounds_a_traced_float(spec, *, learning_rate: float = 0.1):
    is_traced = isinstance(learning_rate, jax.core.Tracer)
    return sound(spec, learning_rate=learning_rate * 1.1 if is_traced else learning_rate)


def ignores_a_traced_float(spec, *, learning_rate: float = 0.1):
    return sound(spec, learning_rate=0.1 if isinstance(learning_rate, jax.core.Tracer) else learning_rate)


def branches_on_an_optional_float(spec, *, decay: float | None = None):
    return sound(spec, decay=decay if decay is None or decay > 0 else 0.0)


def ignores_a_traced_optional_float(spec, *, decay: float | None = None):
    return sound(spec, decay=None if isinstance(decay, jax.core.Tracer) else decay)


def ignores_an_option(spec, *, momentum: float = 0.9):
    return sound(spec)


def reads_an_option_for_metrics_only(spec, *, delta: float = 0.9):
    agent = sound(spec)

    def update(key, state, trajectory):
        state, metrics = agent.update(key, state, trajectory)
        return state, {**metrics, "delta": delta * metrics["loss"]}

    return agent._replace(update=update)


def vmap_mixes_seeds(spec):
    """Looks at the axis that vmap added: a custom batching rule that takes the mean over it."""

    @jax.custom_batching.custom_vmap
    def same(x):
        return x

    @same.def_vmap
    def _(axis_size, in_batched, x):
        return jnp.broadcast_to(x.mean(0, keepdims=True), x.shape), True

    mixed = lambda state, _: state._replace(params={**state.params, "kernel": same(state.params["kernel"])})  # noqa: E731
    return with_init(mixed)(spec)


def forgets_the_normaliser(agent, key, state, observation, explore):
    clean = state if explore else state._replace(observation_statistics=jnp.zeros(1))
    return agent.act(key, clean, observation, explore=explore)


_COUNTER = itertools.count()


def counts_on_the_host(spec):
    """Hidden state: the second agent is another program."""
    number = next(_COUNTER)
    return with_update(lambda state, key: state._replace(updates=state.updates + number))(spec)


def nan_act(agent, key, state, observation, explore):
    action, extras = agent.act(key, state, observation, explore=explore)
    return action.astype(jnp.float32), extras


FAULTS = [
    ("speaks_contract", with_act(nan_act), r"act\(explore=True\) gives float32\[2\]"),
    ("speaks_contract", lambda spec: sound(spec)._replace(update=lambda k, s, t: (s, {"x": jnp.zeros(2)})), "'x'"),
    ("keeps_state", with_update(lambda s, _: s._replace(updates=s.updates + 1.5)), ".updates from int32.. into float"),
    ("keeps_state", with_update(lambda s, _: s._replace(updates=jnp.asarray(1))), ".updates .*weak"),
    ("keeps_state", with_update(lambda s, _: s._replace(per_env=())), "update turns"),
    (
        "keeps_environments_apart",
        with_init(lambda s, n: s._replace(observation_statistics=jnp.zeros(n))),
        ".observation_statistics depends",
    ),
    ("keeps_environments_apart", with_init(lambda s, n: s._replace(per_env=jnp.zeros(4))), "no environment axis"),
    ("no_retrace", with_update(lambda s, _: s._replace(updates=jnp.asarray(1))), "traced 2 times.*.updates"),
    ("repeats", numbers_of_numpy, "two traces of init differ"),
    ("repeats", counts_on_the_host, "two traces of update differ"),
    ("seeds_differ", fixed_key, "draws leaf .params\\['kernel'\\] alike"),
    (
        "seeds_differ",
        with_act(lambda agent, key, *args: agent.act(jax.random.key(0), *args[:-1], explore=args[-1])),
        "act explores alike",
    ),
    ("acts_greedily", with_act(lambda agent, *args: agent.act(*args[:-1], explore=True)), "explore=False under two"),
    ("vmaps_over_seeds", vmap_mixes_seeds, "leaf \\['init'\\].params\\['kernel'\\] differs"),
    ("vmaps_over_floats", branches_on_a_float, "option 'learning_rate' can't be a tracer"),
    ("vmaps_over_floats", rounds_a_traced_float, "seed 0 .*'learning_rate': 0.1.* differs by"),
    ("options_matter", ignores_a_traced_float, "option 'learning_rate' is read as a plain float only"),
    ("options_matter", branches_on_an_optional_float, "option 'decay' can't be a tracer"),
    ("options_matter", ignores_a_traced_optional_float, "option 'decay' is read as a plain float only"),
    ("options_matter", ignores_an_option, "option 'momentum' changes nothing"),
    ("options_matter", reads_an_option_for_metrics_only, "option 'delta' changes nothing"),
    ("evaluates", with_act(forgets_the_normaliser), "does not read observation_statistics"),
    (
        "resumes",
        with_update(lambda s, _: s._replace(updates=jnp.asarray(1))),
        ".agent.updates was int32.* .weak type. and is restored as",
    ),
]


@pytest.fixture(scope="module")
def report():
    return checks.check(sound, ENV, ENV.default_params, spec=SPEC, exempt=["speaks_contract"])


def test_a_sound_agent_passes(report):
    assert report.properties == tuple(name for name in checks.PROPERTIES if name != "speaks_contract")
    assert report.exempt == ("speaks_contract",)
    assert report.floats == ("learning_rate", "temperature")
    assert report.options["temperature"] == "update"
    assert set(report.options) == {"learning_rate", "decay", "temperature", "num_steps", "bias"}


@pytest.mark.parametrize(("property_", "make", "message"), FAULTS, ids=lambda part: getattr(part, "__name__", None))
def test_a_fault_is_caught(property_, make, message):
    subject = checks.Subject(make, ENV, ENV.default_params, spec=SPEC)
    with pytest.raises(checks.ConformanceError, match=f"^{property_}: (.|\n)*{message}"):
        checks.PROPERTIES[property_](subject)


@pytest.mark.parametrize("number", range(3))
def test_the_agent_of_the_docs_passes(number):
    page = (Path(__file__).parents[2] / "docs" / "add_an_agent.md").read_text()
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(page.split("```python\n")[1].split("```")[0], "docs/add_an_agent.md", "exec"), names)
    env, params = make("CartPole-v1")
    # It explores one time in ten, by two actions: few draws are alike for many a key.
    found = names["check"](names["bandit"], env, params, spec=spec(env, params), key=jax.random.key(number))
    assert found.floats == ("epsilon",)
    agent = names["bandit"](spec(env, params))
    with pytest.raises(TypeError, match="make_agent: got an Agent, must be the function that makes one"):
        names["check"](agent, env, params, spec=spec(env, params))


def test_what_can_not_be_derived_is_asked_for():
    def make(spec, *, mode="slow"):
        return sound(spec, bias=mode == "fast")

    subject = checks.Subject(make, ENV, ENV.default_params, spec=SPEC)
    with pytest.raises(checks.ConformanceError, match="option 'mode' can be derived from 'slow', give options="):
        checks.options_matter(subject)
    given = checks.Subject(make, ENV, ENV.default_params, spec=SPEC, options={"mode": "fast"})
    assert checks.options_matter(given) == {"mode": "act"}


def test_contexts_and_names():
    def make(spec, *, horizon: int | None = None, anneal: bool = False):
        return sound(spec, decay=1.0 / horizon if anneal else None)

    with pytest.raises(checks.ConformanceError, match="option 'horizon' changes nothing"):
        checks.options_matter(checks.Subject(make, ENV, ENV.default_params, spec=SPEC))
    contexts = {"anneal": {"horizon": 5}, "horizon": {"horizon": 5, "anneal": True}}
    refused = checks.Subject(make, ENV, ENV.default_params, spec=SPEC, contexts={"horizon": contexts["horizon"]})
    with pytest.raises(checks.ConformanceError, match="anneal=True with {} is refused, give another value in options="):
        checks.options_matter(refused)
    subject = checks.Subject(make, ENV, ENV.default_params, spec=SPEC, contexts=contexts)
    assert set(checks.options_matter(subject)) == {"horizon", "anneal"}
    wrong = checks.Subject(make, ENV, ENV.default_params, spec=SPEC, options={"horizn": 3})
    with pytest.raises(checks.ConformanceError, match="no option horizn"):
        checks.options_matter(wrong)
    with pytest.raises(ValueError, match="exempt: got repeat, allowed are"):
        checks.check(sound, ENV, ENV.default_params, spec=SPEC, exempt=["repeat"])
