"""``check``: tests whether an agent keeps the contract, for agents of this library and for custom ones.

``check(partial(my_agent, torso=...), env, params, spec=spec(env, params))`` runs all properties. Each of them is a
function of a ``Subject`` and can be called alone: ``keeps_state(Subject(my_agent, env, params, spec=...))``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from jaxrl.training.options import ALTERNATIVES, CONTEXTS, Context, float_options, parameters
from jaxrl.training.programs import options_matter
from jaxrl.training.properties import (
    acts_greedily,
    evaluates,
    keeps_environments_apart,
    keeps_state,
    no_retrace,
    repeats,
    resumes,
    seeds_differ,
    speaks_contract,
    vmaps_over_floats,
    vmaps_over_seeds,
)
from jaxrl.training.subject import ConformanceError, Subject
from jaxrl.types import Agent, Array, Spec

__all__ = [
    "ALTERNATIVES",
    "CONTEXTS",
    "PROPERTIES",
    "ConformanceError",
    "Context",
    "Report",
    "Subject",
    "acts_greedily",
    "check",
    "evaluates",
    "float_options",
    "keeps_environments_apart",
    "keeps_state",
    "no_retrace",
    "options_matter",
    "parameters",
    "repeats",
    "resumes",
    "seeds_differ",
    "speaks_contract",
    "vmaps_over_floats",
    "vmaps_over_seeds",
]

PROPERTIES: dict[str, Callable[[Subject], Any]] = {
    property_.__name__: property_
    for property_ in (
        speaks_contract,
        keeps_state,
        keeps_environments_apart,
        no_retrace,
        repeats,
        seeds_differ,
        acts_greedily,
        vmaps_over_seeds,
        vmaps_over_floats,
        options_matter,
        evaluates,
        resumes,
    )
}
"""All properties by name, cheap ones first."""


class Report(NamedTuple):
    """The result of a check.

    Attributes:
      properties: names of the properties that hold.
      exempt: names of the properties that were exempt.
      floats: hyper-parameters that were vmapped over.
      options: for each option the first of update, act and init that it changes.
    """

    properties: tuple[str, ...]
    exempt: tuple[str, ...]
    floats: tuple[str, ...]
    options: dict[str, str]


def check(
    make_agent: Callable[..., Agent],
    env: Any,
    params: Any,
    *,
    spec: Spec,
    options: Mapping[str, Any] | None = None,
    contexts: Mapping[str, Mapping[str, Any]] | None = None,
    exempt: Collection[str] = (),
    key: Array | None = None,
) -> Report:
    """Checks that an agent keeps the contract of ``jaxrl.types``.

    Small networks keep it short: ``check(partial(my_agent, torso=MLP(hidden=(8,))), ...)``. The agent is wrapped in
    plain lambdas, so that the tests can't look inside its functions.

    Args:
      make_agent: ``(spec, **options) -> Agent``; its options are read from its signature.
      env: an environment that the agent can act in.
      params: parameters of the environment.
      spec: the environment's spec, ``jaxrl.spec(env, params)``.
      options: alternative values by option, for options other than numbers, bools and those of ``ALTERNATIVES``.
      contexts: values of other options that an option needs in order to matter, in addition to ``CONTEXTS``.
      exempt: names in ``PROPERTIES`` that the agent does not promise; they are reported.
      key: a PRNG key; None for ``jax.random.key(0)``.

    Raises:
      ConformanceError: a property does not hold; the message names it and the leaf or option at fault.
      ValueError: ``exempt`` has an unknown name.
    """
    unknown = sorted(set(exempt) - set(PROPERTIES))
    if unknown:
        raise ValueError(f"exempt: got {', '.join(unknown)}, allowed are {', '.join(PROPERTIES)}")
    subject = Subject(make_agent, env, params, spec=spec, options=options, contexts=contexts, key=key)
    kept = {name: property_ for name, property_ in PROPERTIES.items() if name not in exempt}
    results = {name: property_(subject) for name, property_ in kept.items()}
    return Report(
        properties=tuple(kept),
        exempt=tuple(exempt),
        floats=results.get("vmaps_over_floats", ()),
        options=results.get("options_matter", {}),
    )
