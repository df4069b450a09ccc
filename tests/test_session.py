"""The session is strict: see conftest.py."""

import warnings

import jax
import pytest


def test_warnings_of_jaxrl_are_errors():
    with pytest.raises(DeprecationWarning, match="old"):
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module="jaxrl.ops.returns")


@pytest.mark.filterwarnings("ignore:old")
def test_warnings_of_others_are_not():
    warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module="optax.losses")


def test_rank_promotion_raises():
    assert jax.config.jax_numpy_rank_promotion == "raise"
