"""Every gymnax environment passes ``check``, or stands in the table of exceptions for the reason that is given."""

import gymnax
import numpy as np
import pytest

from jaxrl import envs

NO_DOWNLOAD = [name for name in gymnax.registered_envs if name not in envs.KNOWN_EXCEPTIONS]


@pytest.mark.parametrize("name", NO_DOWNLOAD)
def test_gymnax_environments_pass(name):
    env, params = envs.make(name)
    # Short episodes, so that truncations and resets occur within the run.
    limit = type(params.max_steps_in_episode)(min(params.max_steps_in_episode, 40))
    report = envs.check(env, params.replace(max_steps_in_episode=limit))
    assert report.episodes >= 90


def test_the_exceptions_are_the_downloads():
    assert envs.KNOWN_EXCEPTIONS["MNISTBandit-bsuite"] == "downloads its data set when it is made"
    assert len(envs.KNOWN_EXCEPTIONS) == 1
    assert set(envs.KNOWN_EXCEPTIONS) <= set(envs.available())


def test_mnist_passes_on_a_stand_in_for_its_data(monkeypatch):
    generator = np.random.default_rng(0)
    data = generator.integers(0, 255, (50, 28, 28)), generator.integers(0, 10, 50)
    monkeypatch.setattr("gymnax.utils.load_mnist.load_mnist", lambda: (data, data))
    report = envs.check(*envs.make("MNISTBandit-bsuite"))
    assert report.terminated == report.episodes == report.steps
