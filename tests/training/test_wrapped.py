"""Agents whose three functions were wrapped or jitted train, split over devices and resume: nothing looks inside."""

from functools import partial

import jax
import pytest

from jaxrl.training import Checkpoints, Program, fit, make_mesh
from jaxrl.training.asynchronous import Asynchronous
from jaxrl.training.subject import opaque
from jaxrl.types import Agent


def jitted(agent):
    return Agent(
        jax.jit(agent.init, static_argnames="num_envs"),
        jax.jit(agent.act, static_argnames="explore"),
        jax.jit(agent.update),
    )


@pytest.mark.parametrize("wrap", [opaque, jitted])
@pytest.mark.parametrize("num_devices", [None, 2])
def test_a_wrapped_agent_trains_and_resumes(wrap, num_devices, cartpole, toys, tmp_path):
    mesh = None if num_devices is None else make_mesh(num_devices)
    programs = [
        Program(
            lambda make=make: make(cartpole.make_agent()),
            cartpole.env,
            cartpole.params,
            jax.random.split(jax.random.key(1), 1),
            num_envs=cartpole.num_envs,
            rollout_length=cartpole.rollout_length,
            mesh=mesh,
        )
        for make in (lambda agent: agent, wrap)
    ]
    plain, whole = (fit(program, num_updates=2, updates_per_chunk=2)[0] for program in programs)
    toys.assert_close(plain.agent.params, whole.agent.params)
    half, _ = fit(programs[1], num_updates=1, updates_per_chunk=2)
    Checkpoints(tmp_path).save(1, half)
    restored = Checkpoints(tmp_path).restore(programs[1].abstract_state())
    toys.assert_same(whole, fit(programs[1], num_updates=2, updates_per_chunk=2, state=restored)[0])


@pytest.mark.parametrize("wrap", [opaque, jitted])
def test_a_wrapped_agent_trains_with_threads(wrap, cartpole, toys):
    """One worker, whose numbers are those of the plain agent."""
    make = partial(cartpole.make_agent, normalize_reward=False)
    runs = [
        Asynchronous(
            agent, cartpole.env, cartpole.params, jax.random.key(1), num_workers=1, num_envs=4, rollout_length=16
        )
        for agent in (make(), wrap(make()))
    ]
    plain, wrapped = (fit(run, num_updates=2, updates_per_chunk=2)[0] for run in runs)
    toys.assert_close(plain.agent.params, wrapped.agent.params)
