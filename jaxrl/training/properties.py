"""The properties of the conformance suite, one function each: they take a ``Subject`` and raise or return None."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.training.evaluate import evaluate
from jaxrl.training.programs import PARTS, Programs, own_programs
from jaxrl.training.subject import (
    ConformanceError,
    Run,
    Subject,
    describe,
    leaves,
    require,
    require_close,
    require_equal,
    run_once,
    to_numpy,
    without_memory,
)
from jaxrl.types import Array, Discrete, PyTree, Remembered, Texts, memory

_NUM_KEYS = 16
_NUM_DRAWS = 256
"""Number of keys, enough for a policy that explores in one of a hundred steps."""


def described(tree: PyTree) -> list[tuple[str, str]]:
    """The name, shape and dtype of each leaf."""
    return [(name, describe(leaf)) for name, leaf in leaves(tree)]


def speaks_contract(subject: Subject) -> None:
    """Actions fit the action space, memories fit those fed back, and metrics are a flat dict of scalars."""
    promise = "speaks_contract"
    space = subject.spec.action
    state, observation, _ = subject.shapes
    jitted_act = jax.jit(subject.agent.act, static_argnames="explore")  # callers may jit an agent's functions
    for explore in (True, False):
        act = partial(jitted_act, explore=explore)
        action, _ = jax.eval_shape(act, subject.key, state, observation)
        kept, fed_back = (action.memory if isinstance(action, Remembered) else None), memory(observation)
        same = described(kept) == described(fed_back)
        require(same, promise, f"act(explore={explore}) remembers {kept}, the environment feeds back {fed_back}")
        for name, leaf, kind, shape in _wanted(space, without_memory(action), subject.num_envs):
            fits = leaf.shape == shape and jnp.issubdtype(leaf.dtype, kind)
            wanted = f"{_KINDS[kind]} array {list(shape)}"
            found = f"act(explore={explore}) gives {name}{describe(leaf)}, the spec asks for {wanted}"
            require(fits, promise, found)
    _, metrics = subject.updated_shapes
    require(isinstance(metrics, dict), promise, f"metrics are a {type(metrics).__name__}, not a dict")
    for name, leaf in metrics.items():
        scalar = isinstance(name, str) and getattr(leaf, "shape", None) == ()
        require(scalar, promise, f"metric {name!r} is no scalar")


_KINDS = {jnp.integer: "an integer", jnp.floating: "a float", jnp.bool_: "a bool"}


def _wanted(space: Any, action: Any, num_envs: int) -> list[tuple[str, Any, Any, tuple[int, ...]]]:
    """The arrays of an action, each with its name, and the kind and the shape that the action space asks for."""
    if isinstance(space, Texts):
        shape = (num_envs, space.length)
        return [("tokens ", action.tokens, jnp.integer, shape), ("mask ", action.mask, jnp.bool_, shape)]
    if isinstance(space, Discrete):
        return [("", action, jnp.integer, (num_envs,))]
    return [("", action, jnp.floating, (num_envs, *space.shape))]


def keeps_state(subject: Subject) -> None:
    """``update`` returns a state of the same structure, shapes, dtypes and weak types."""
    state, updated = subject.shapes[0], subject.updated_shapes[0]
    structures: list[Any] = [jax.tree.structure(tree) for tree in (state, updated)]
    require(structures[0] == structures[1], "keeps_state", f"update turns {structures[0]} into {structures[1]}")
    for (name, before), after in zip(leaves(state), jax.tree.leaves(updated), strict=True):
        message = f"update turns leaf {name} from {describe(before)} into {describe(after)}"
        require(describe(before) == describe(after), "keeps_state", message)


def no_retrace(subject: Subject) -> None:
    """Each function is traced once, for all keys and before and after updates."""
    experience = subject.experience
    subject.init(subject.fold(10))
    for state in experience.states:
        subject.act(subject.fold(11), state, experience.observation)
    for name, count in subject.num_traces.items():
        changed = _changed_leaves(experience.states[0], experience.states[1])
        require(count == 1, "no_retrace", f"{name} was traced {count} times; {changed}")


def _changed_leaves(before: PyTree, after: PyTree) -> str:
    pairs = zip(leaves(before), jax.tree.leaves(after), strict=False)
    changed = [f"{name} from {describe(x)} to {describe(y)}" for (name, x), y in pairs if describe(x) != describe(y)]
    return f"update changes {', '.join(changed)}" if changed else "the state looks the same to jit"


def repeats(subject: Subject) -> None:
    """Equal arguments give equal results bit for bit, and a second agent of the same options is the same program."""
    state, updated, _ = subject.experience.states
    observation, trajectory = subject.experience.observation, subject.experience.trajectory
    again = subject.init(subject.fold(0))
    require_equal("repeats", "init with the same key", state, again)
    require_equal("repeats", "update with the same key", updated, subject.update(subject.fold(2), again, trajectory)[0])
    acted = [subject.act(subject.fold(10), updated, observation) for _ in range(2)]
    require_equal("repeats", "act with the same key", *acted)
    second = subject.make(subject.spec)
    own, others = own_programs(subject), Programs(subject, second, subject.spec)
    for part in PARTS:
        message = f"two traces of {part} differ: it reads something besides its arguments, such as numpy.random"
        require(own[part] == others[part], "repeats", message)


def seeds_differ(subject: Subject) -> None:
    """Every weight matrix that init draws, and the actions, differ between keys."""
    first, second = subject.init(subject.fold(0)), subject.init(subject.fold(1))
    for (name, x), y in zip(leaves(first), jax.tree.leaves(second), strict=True):
        a, b = to_numpy(x), to_numpy(y)
        drawn = a.ndim >= 2 and np.unique(a).size > 1
        require(not drawn or not np.array_equal(a, b), "seeds_differ", f"init draws leaf {name} alike for two keys")
    _, state, _ = subject.experience.states
    keys = jax.random.split(subject.fold(10), _NUM_DRAWS)
    acted = [subject.act(key, state, subject.experience.observation)[0] for key in keys]
    actions = np.stack([jax.tree.leaves(without_memory(action))[0] for action in acted])
    require(len(np.unique(actions, axis=0)) > 1, "seeds_differ", f"act explores alike with {_NUM_DRAWS} keys")


def _rows_agree(promise: str, subject: Subject, rows: PyTree, rtol: float, atol: float) -> None:
    """Raises unless the first rows, one per seed, equal the results of the shared programs."""
    for i, key in enumerate(subject.seeds):
        row = jax.tree.map(lambda x: x[i], rows)  # noqa: B023
        require_close(promise, f"seed {i} with floats {subject.floats}", subject.run_once(key), row, rtol, atol)


def vmaps_over_seeds(subject: Subject, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """``vmap`` over keys equals a loop over keys, within float tolerance."""
    try:
        _rows_agree("vmaps_over_seeds", subject, subject.together, rtol, atol)
        return
    except (ConformanceError, jax.errors.JAXTypeError):
        pass  # floats are traced there too, so test the seeds alone
    seen = subject.experience.observation, subject.experience.trajectory
    run = jax.vmap(partial(run_once, subject.agent, subject.num_envs), in_axes=(0, None, None))
    rows = jax.tree.map(to_numpy, jax.jit(run)(subject.seeds, *seen))
    _rows_agree("vmaps_over_seeds", subject, rows, rtol, atol)


def vmaps_over_floats(subject: Subject, rtol: float = 1e-4, atol: float = 1e-5) -> tuple[str, ...]:
    """``vmap`` over all float hyper-parameters at once equals plain floats, within float tolerance.

    ``options_matter`` tests whether a traced float is read at all.

    Returns:
      The names of the hyper-parameters in the signature.
    """
    if not subject.floats:
        return ()
    try:
        rows = subject.together
    except jax.errors.JAXTypeError as error:
        raise _culprit(subject, error) from error
    _rows_agree("vmaps_over_floats", subject, rows, rtol, atol)
    return tuple(subject.floats)


def _culprit(subject: Subject, error: Exception) -> ConformanceError:
    """The error that names the option which can't be a tracer."""
    seen = subject.experience.observation, subject.experience.trajectory
    for name, value in subject.floats.items():
        try:
            jax.eval_shape(subject.over_floats, subject.key, {name: value}, *seen)
        except jax.errors.JAXTypeError:
            return ConformanceError(f"vmaps_over_floats: option {name!r} can't be a tracer: {error}")
    return ConformanceError(f"vmaps_over_floats: {error}")


def keeps_environments_apart(subject: Subject) -> None:
    """Leaves with an environment axis lie under a field ``per_env``, where other leaves are scalars such as counts."""
    promise = "keeps_environments_apart"
    two, three = (leaves(jax.eval_shape(lambda key: subject.agent.init(key, n), subject.key)) for n in (2, 3))  # noqa: B023
    require(len(two) == len(three), promise, "the number of leaves depends on num_envs")
    for (name, x), (_, y) in zip(two, three, strict=True):
        inside = ".per_env" in name
        if not inside:
            require(x.shape == y.shape, promise, f"leaf {name} depends on num_envs but lies outside of per_env")
            continue
        if x.shape == y.shape == ():
            continue
        axes = [pair for pair in zip(x.shape, y.shape, strict=False) if pair[0] != pair[1]]
        require((2, 3) in axes, promise, f"leaf {name} has no environment axis: {x.shape} for 2, {y.shape} for 3")


def acts_greedily(subject: Subject) -> None:
    """``act`` with ``explore=False`` does not depend on the key. Recipes with a random greedy policy are exempt."""
    _, state, _ = subject.experience.states
    keys = jax.random.split(subject.fold(30), _NUM_KEYS)
    actions = [subject.act_greedily(key, state, subject.experience.observation)[0] for key in keys]
    for action in actions[1:]:
        require_equal("acts_greedily", "the action with explore=False under two keys", actions[0], action)


def evaluates(subject: Subject) -> None:
    """Evaluation does not change the state, repeats with its key, and reads the observation normaliser."""
    promise, state = "evaluates", subject.experience.states[1]
    before = jax.tree.map(to_numpy, state)

    @jax.jit
    def play(key: Array, state: PyTree, params: Any) -> Any:
        num, limit = subject.num_envs, subject.rollout_length
        return evaluate(key, subject.agent, state, subject.env, params, num_episodes=num, max_steps=limit)

    episodes = [play(subject.fold(40), state, subject.params) for _ in range(2)]
    require_equal(promise, "the agent's state after an evaluation", before, jax.tree.map(to_numpy, state))
    require_equal(promise, "evaluation with the same key", *episodes)
    require(np.isfinite(episodes[0].returns).all(), promise, f"returns are {episodes[0].returns}")
    statistics = getattr(state, "observation_statistics", ())
    if not jax.tree.leaves(statistics):
        return
    moved = state._replace(observation_statistics=jax.tree.map(lambda x: 2 * x + 1, statistics))
    acted = [subject.act_greedily(subject.fold(41), s, subject.experience.observation) for s in (state, moved)]
    same = all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, acted), strict=True))
    require(not same, promise, "act with explore=False does not read observation_statistics")


def resumes(subject: Subject) -> None:
    """A checkpoint restores the state of a run bit for bit, and the run continues from it as without a break."""
    from jaxrl.training.checkpoint import Checkpoints

    (_, state, _), env_state, observation, _, _ = subject.experience
    half = Run(state, env_state, observation)
    with tempfile.TemporaryDirectory() as directory:
        Checkpoints(directory).save(1, half)
        restored = Checkpoints(directory).restore(half)
    for (name, before), after in zip(leaves(half), jax.tree.leaves(restored), strict=True):
        same = describe(before) == describe(after)
        require(same, "resumes", f"leaf {name} was {describe(before)} and is restored as {describe(after)}")
    require_equal("resumes", "the restored state", half, restored)
    require_equal("resumes", "one update later", subject.advance(50, half), subject.advance(50, restored))
