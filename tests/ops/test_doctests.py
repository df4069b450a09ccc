"""The examples in the docstrings are true."""

import doctest

import pytest

from jaxrl.ops import normalize, policy_gradient, returns, value


@pytest.mark.parametrize("module", [normalize, policy_gradient, returns, value], ids=lambda module: module.__name__)
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
