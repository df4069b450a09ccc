"""Contradictory arguments: each is valid, but together they do nothing, or less than intended."""

from __future__ import annotations

from collections.abc import Iterator

from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.presets import defaults_of
from jaxrl.runs.recipes import UnknownName, find_recipe, hyperparameters
from jaxrl.training.evaluate import episode_limit
from jaxrl.training.options import is_number, without_effect


def _steps(config: RunConfig, built: Built) -> int:
    """Environment steps per seed, a multiple of those of an update."""
    return built.num_updates * config.num_envs * config.rollout_length


def _gradient_steps(config: RunConfig, built: Built) -> int | None:
    """Gradient steps of the run; None if the recipe does not declare how many it takes."""
    values = config.hyperparameters
    if "num_gradient_steps" not in values:
        return None
    steps = _steps(config, built)
    learning = max(0, steps - int(values.get("learning_starts", 0))) / max(1, steps)
    return int(built.num_updates * learning * int(values["num_gradient_steps"]))


def contradictions(config: RunConfig, built: Built, before: int = 0) -> Iterator[str]:
    """Contradictions that make a run pointless, each as a message with the arguments and their values.

    Args:
      config, built: configuration and objects of a run, or of one of its stages.
      before: environment steps per seed in earlier stages, whose replay may be handed over.
    """
    values, steps = config.hyperparameters, before + _steps(config, built)
    starts = values.get("learning_starts")
    if starts is not None and starts > steps:
        yield (
            f"learning_starts: got {starts}, but the run has {steps} steps of each seed (--steps), so that nothing "
            f"would be learned; lower --learning-starts below {steps}, or train for longer"
        )
    capacity = values.get("replay_capacity")
    if starts is not None and capacity is not None and starts > capacity:
        yield (
            f"learning_starts: got {starts}, but the replay holds {capacity} (--replay-capacity); old transitions "
            "would be overwritten before learning starts; lower --learning-starts"
        )
    if config.eval_every is not None:
        if config.eval_every < 1:
            yield f"eval_every: got {config.eval_every}, must be at least 1 (environment steps of each seed)"
        elif config.eval_every > steps and not config.stages:
            yield (
                f"eval_every: got {config.eval_every}, but the run has {steps} steps of each seed (--steps), so that "
                "nothing would be evaluated on the way; lower it, or leave it out: the end is evaluated anyway"
            )
        if config.eval_episodes == 0:
            yield f"eval_every: got {config.eval_every}, but --eval-episodes is 0: there is nothing to play"
    if config.eval_episodes < 0:
        yield f"eval_episodes: got {config.eval_episodes}, must be at least 0"
    for name, what in (("steps_per_round", "round"), ("random_steps", "phase of random actions")):
        length = values.get(name)
        if isinstance(length, int) and length > steps:
            yield (
                f"{name}: got {length}, but the run has {steps} steps of each seed (--steps), so that the first {what} "
                "would not end and nothing would be learned; lower it, or train for longer"
            )
    if is_grouped(config.recipe) and config.rollout_length < 2:
        yield (
            f"rollout_length: got {config.rollout_length}, but {config.recipe} compares that many answers to a prompt; "
            "give --rollout-length at least 2"
        )
    delay = values.get("delay")
    if isinstance(delay, int) and delay >= built.num_updates:
        yield f"delay: got {delay}, but the run has {built.num_updates} updates: no gradient would ever be applied"


def is_grouped(recipe: str) -> bool:
    """Whether a recipe compares the answers of a rollout; of one that was given as an object it is not known."""
    try:
        return bool(getattr(find_recipe(recipe), "groups", False))
    except (ConfigError, UnknownName):
        return False


def _given(config: RunConfig) -> list[str]:
    """The hyper-parameters that are swept, or differ from the preset and from the recipe's defaults."""
    try:
        known = hyperparameters(config.recipe)
    except (ConfigError, UnknownName):  # a recipe that was given from Python, as an object
        known = {}
    presets = defaults_of(config.recipe, config.environment)
    swept = () if config.sweep is None else config.sweep.names
    return [
        name
        for name, value in config.hyperparameters.items()
        if name in swept
        or (name in known and value not in (known[name].default, presets.get(name, known[name].default)))
    ]


def probable_mistakes(config: RunConfig, built: Built, before: int = 0) -> Iterator[str]:
    """Settings that are probably mistakes, each as a sentence; the run proceeds. The arguments are as above."""
    values, steps = config.hyperparameters, _steps(config, built)
    for name, reason in without_effect(values, _given(config), built.spec.action):
        is_swept = config.sweep is not None and name in config.sweep.names
        given = "swept" if is_swept else repr(values[name])
        yield f"{name} is {given}, but has no effect while {reason}"
    for name, idle, what in (
        ("learning_rate", 0, "nothing is learned"),
        ("tau", 0, "the target network is never updated"),
        ("real_share", 1, "the model is fitted, but nothing is learned from its rollouts"),
    ):
        if is_number(values.get(name)) and values[name] == idle:
            yield f"{name} is {values[name]!r}: {what}"
    if values.get("horizon") == 0:
        yield "horizon is 0: the model is fitted, but never used"
    random, planned = values.get("random_steps"), values.get("planned_steps")
    if isinstance(random, int) and isinstance(planned, int) and random + planned > before + steps:
        yield (
            f"planned_steps is {planned}, after {random} random ones, but the run has {before + steps} steps of each "
            "seed (--steps): no policy is learned, and the planner acts to the end"
        )
    held = min(values.get("replay_capacity", before + steps), before + steps)
    batch = values.get("batch_size")
    if batch is not None and "replay_capacity" in values and batch > held:
        yield (
            f"batch_size is {batch}, but the replay never holds more than {held} transitions (--steps, "
            "--replay-capacity): every batch has some of them several times"
        )
    gradient_steps = _gradient_steps(config, built)
    if gradient_steps is not None:
        for name, what in (
            ("target_interval", "the target network is never updated"),
            ("policy_delay", "the policy is never updated"),
        ):
            interval = values.get(name)
            if isinstance(interval, int) and interval > gradient_steps > 0:
                yield f"{name} is {interval}, but the run has about {gradient_steps} gradient steps: {what}"
    limit = episode_limit(built.params)
    for name, value in (("window", config.window), ("n_step", values.get("n_step"))):
        if isinstance(value, int) and limit is not None and value > limit:
            yield f"{name} is {value}, but an episode ends after {limit} steps: it never sees more than those"
    teacher = config.parts.get("feedback")
    if teacher is not None and {"labels", "queries", "query_interval"} <= {*teacher.settings}:
        labels, queries, interval = (int(teacher.settings[name]) for name in ("labels", "queries", "query_interval"))
        first = int(teacher.settings.get("pretraining") or interval)
        asked = queries * max(0, (steps - first) // interval + 1)
        if asked < labels:
            yield (
                f"labels is {labels}, but the teacher is asked {asked} times: {queries} (--feedback.queries) every "
                f"{interval} steps (--feedback.query-interval) of {steps}"
            )
    unused = config.num_steps - steps
    if config.rollout_length and unused >= config.num_envs * config.rollout_length // 2 and unused > steps // 10:
        yield (
            f"--steps {config.num_steps} is no multiple of an update's {config.num_envs} x {config.rollout_length} "
            f"steps: {unused} of them are left out"
        )
