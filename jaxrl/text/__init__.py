"""Language models: a causal transformer, generation, log-probabilities, files, tokenizers, and fits to answers."""

from jaxrl.text.generate import Completion, Scores, generate, last_true, log_probs, score
from jaxrl.text.hugging_face import LanguageModel, load, save
from jaxrl.text.lora import Adapters, Factors, apply_lora, lora, merge_lora
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
from jaxrl.text.pretrain import Pretrained, bits_per_byte, pretrain, prose
from jaxrl.text.supervised import answer_loss, demonstrations, init_params, supervised
from jaxrl.text.tokenizer import BPE, Bytes, Tokenizer, bpe, pad
from jaxrl.text.transformer import Transformer, gpt2, llama

__all__ = [
    "Adapters",
    "BPE",
    "Bytes",
    "Completion",
    "Factors",
    "LanguageModel",
    "Pairs",
    "Pretrained",
    "Scores",
    "Tokenizer",
    "Transformer",
    "accuracy",
    "answer_loss",
    "apply_lora",
    "bits_per_byte",
    "bpe",
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
    "load",
    "log_probs",
    "lora",
    "merge_lora",
    "pad",
    "pretrain",
    "prose",
    "reward_accuracy",
    "reward_model",
    "reward_score",
    "save",
    "score",
    "scored",
    "supervised",
]


def __dir__() -> list[str]:
    return sorted(__all__)
