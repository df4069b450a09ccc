"""The examples in the docstrings are true."""

import doctest

import pytest

from jaxrl.ops import across, distributional, exploration, normalize, policy_gradient, returns, td, value

MODULES = [across, distributional, exploration, normalize, policy_gradient, returns, td, value]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
