"""The session is strict: see conftest.py."""

import warnings

import jax
import pytest


def test_warnings_of_jaxrl_are_errors():
    with pytest.raises(DeprecationWarning, match="old"):
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module="jaxrl.ops.returns")


def test_warnings_of_others_are_not():
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module="optax.losses")
    assert [str(warning.message) for warning in caught] == ["old"]


def test_rank_promotion_raises():
    assert jax.config.jax_numpy_rank_promotion == "raise"
