"""Language models: a causal transformer, generation, and log-probabilities of completions."""

from jaxrl.text.generate import Completion, Scores, generate, last_true, log_probs, score
from jaxrl.text.supervised import answer_loss, demonstrations, init_params, supervised
from jaxrl.text.transformer import Transformer, gpt2, llama

__all__ = [
    "Completion",
    "Scores",
    "Transformer",
    "answer_loss",
    "demonstrations",
    "generate",
    "gpt2",
    "init_params",
    "last_true",
    "llama",
    "log_probs",
    "score",
    "supervised",
]


def __dir__() -> list[str]:
    return sorted(__all__)
