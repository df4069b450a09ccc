"""Makes the files of tests/text/golden by torch and transformers; needs both.

``python tests/text/make_golden.py`` writes tiny random models of both families in Hugging Face's format, their logits
on padded texts, greedy completions, and a tokenizer with its tokens of a sentence. versions.json names the versions.
"""

import json
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers

GOLDEN = Path(__file__).parent / "golden"
SENTENCE = "the cat sat on the mat, said the other cat's hat: 12 naïve thats"
CORPUS = ["the cat sat on the mat", "that hat is the other cat's", "12 cats, 13 hats"] * 4


def configs():
    shared = {"bos_token_id": 0, "eos_token_id": 5, "pad_token_id": None}
    yield "gpt2", transformers.GPT2Config(vocab_size=61, n_embd=24, n_layer=2, n_head=3, n_positions=32, **shared)
    yield (
        "llama",
        transformers.LlamaConfig(
            vocab_size=61,
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32,
            rms_norm_eps=1e-5,
            rope_theta=500.0,
            **shared,
        ),
    )


def texts():
    """Token ids ``[3, 9]`` and a mask with padding on the left."""
    generator = np.random.default_rng(0)
    mask = np.arange(9)[None] >= np.array([0, 3, 8])[:, None]
    return np.where(mask, generator.integers(0, 61, (3, 9)), 0), mask


def main():
    for name, config in configs():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():  # far from the start, where norms and biases would have no effect
                parameter.add_(0.3 * torch.randn_like(parameter))
        model.save_pretrained(GOLDEN / name)
        (GOLDEN / name / "generation_config.json").unlink(missing_ok=True)
        tokens, mask = (torch.as_tensor(x) for x in texts())
        places = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            logits = model(input_ids=tokens, attention_mask=mask.long(), position_ids=places).logits
            greedy = model.generate(
                input_ids=tokens, attention_mask=mask.long(), max_new_tokens=12, do_sample=False, pad_token_id=0
            )[:, tokens.shape[1] :]
        np.savez(GOLDEN / name / "outputs.npz", tokens=tokens, mask=mask, logits=logits.numpy(), greedy=greedy.numpy())
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        CORPUS, tokenizers.trainers.BpeTrainer(vocab_size=280, special_tokens=["<end>"], initial_alphabet=alphabet)
    )
    inner.save(str(GOLDEN / "llama" / "tokenizer.json"))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(GOLDEN / "llama" / "tokenizer.json"))
    (GOLDEN / "sentence.json").write_text(json.dumps({"text": SENTENCE, "tokens": fast.encode(SENTENCE)}) + "\n")
    versions = {p.__name__: p.__version__ for p in (torch, transformers, tokenizers, np)}
    (GOLDEN / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
