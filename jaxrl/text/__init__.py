"""Language models: a causal transformer, generation, and log-probabilities of completions."""

from jaxrl.text.generate import Completion, Scores, generate, last_true, log_probs, score
from jaxrl.text.pairs import (
    Pairs,
    accuracy,
    compare,
    dpo,
    fit_reward,
    ipo,
    reward_accuracy,
    reward_model,
    reward_score,
    scored,
)
from jaxrl.text.supervised import answer_loss, demonstrations, init_params, supervised
from jaxrl.text.transformer import Transformer, gpt2, llama

__all__ = [
    "Completion",
    "Pairs",
    "Scores",
    "Transformer",
    "accuracy",
    "answer_loss",
    "compare",
    "demonstrations",
    "dpo",
    "fit_reward",
    "generate",
    "gpt2",
    "init_params",
    "ipo",
    "last_true",
    "llama",
    "log_probs",
    "reward_accuracy",
    "reward_model",
    "reward_score",
    "score",
    "scored",
    "supervised",
]


def __dir__() -> list[str]:
    return sorted(__all__)
