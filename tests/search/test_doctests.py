"""The examples in the docstrings are true."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["argmax", "backup", "halving", "tree"])
def test_examples(name):
    # By name: the package's own names hide some of its modules.
    result = doctest.testmod(importlib.import_module(f"jaxrl.search.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
