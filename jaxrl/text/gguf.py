"""Models in GGUF files, by the ``gguf`` package, which dequantises them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxrl.text import extras
from jaxrl.text.hugging_face import LanguageModel
from jaxrl.text.tokenizer import BPE
from jaxrl.text.transformer import Transformer, gpt2, llama
from jaxrl.text.weights import assemble, check_shapes, entries_of

OUTER = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
INNER = {
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Names of tensors: Hugging Face's, and GGUF's."""
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
"""Types of tokens in a GGUF file."""


def name_of(name: str) -> str:
    """GGUF's name of a tensor.

    >>> name_of("model.layers.3.self_attn.q_proj.weight"), name_of("transformer.ln_f.bias")
    ('blk.3.attn_q.weight', 'output_norm.bias')
    """
    stem, kind = name.rsplit(".", 1)
    if stem in OUTER:
        return f"{OUTER[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{INNER[rest]}.{kind}"


def halves(rows: np.ndarray, num_heads: int) -> np.ndarray:
    """Undoes GGUF's order of queries and keys, in which the pairs that a rotation turns are neighbours.

    Args:
      rows: ``[heads * E, inputs]``.
      num_heads: the number of heads.

    Returns:
      The same rows, with a pair in the two halves of its head.
    """
    split = rows.reshape(num_heads, len(rows) // num_heads // 2, 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def model_of(fields: dict[str, Any], tied: bool, dtype: Literal["float32", "bfloat16"]) -> Transformer:
    """The model of a file's metadata.

    Raises:
      ValueError: it is of neither family, or has an option that ``Transformer`` lacks; the message names it.
    """
    family = fields["general.architecture"]
    if family not in ("gpt2", "llama"):
        raise ValueError(f"path: got general.architecture={family!r}, supported is 'gpt2', 'llama'")

    def get(name: str, default: Any = None) -> Any:
        return fields.get(f"{family}.{name}", default)

    scaling = get("rope.scaling.type", "none")
    if scaling != "none":
        raise ValueError(f"path: got {family}.rope.scaling.type={scaling!r}, supported is 'none'")
    width, heads = get("embedding_length"), get("attention.head_count")
    if get("rope.dimension_count", width // heads) != width // heads:
        raise ValueError(f"path: got rope.dimension_count={get('rope.dimension_count')}, supported is {width // heads}")
    shared: dict[str, Any] = {
        "width": width,
        "num_layers": get("block_count"),
        "num_heads": heads,
        "max_length": get("context_length"),
        "mlp_width": get("feed_forward_length"),
        "tied": tied,
        "dtype": dtype,
    }
    vocab_size = len(fields["tokenizer.ggml.tokens"])
    if family == "gpt2":
        return gpt2(vocab_size, epsilon=get("attention.layer_norm_epsilon", 1e-5), **shared)
    return llama(
        vocab_size,
        num_kv_heads=get("attention.head_count_kv", heads),
        epsilon=get("attention.layer_norm_rms_epsilon", 1e-5),
        rotary_base=float(get("rope.freq_base", 10_000.0)),
        **shared,
    )


def tokenizer_of(fields: dict[str, Any], end: int | None) -> BPE | None:
    """The byte-pair tokenizer of a file; None for another kind, such as SentencePiece."""
    if fields.get("tokenizer.ggml.model") != "gpt2" or fields.get("tokenizer.ggml.pre") not in ("gpt-2", "smollm"):
        return None
    package = extras.package("tokenizers", "gguf")
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in fields["tokenizer.ggml.merges"]]
    inner = package.Tokenizer(package.models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    before = [package.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if fields["tokenizer.ggml.pre"] == "smollm":
        before.insert(0, package.pre_tokenizers.Digits(individual_digits=True))
    inner.pre_tokenizer = package.pre_tokenizers.Sequence(before)
    inner.decoder = package.decoders.ByteLevel()
    kinds = fields.get("tokenizer.ggml.token_type", [NORMAL] * len(tokens))
    of_kind = lambda kind: [token for token, given in zip(tokens, kinds, strict=True) if given == kind]  # noqa: E731
    inner.add_special_tokens([package.AddedToken(token, normalized=False) for token in of_kind(CONTROL)])
    inner.add_tokens([package.AddedToken(token, normalized=False) for token in of_kind(USER_DEFINED)])
    return BPE(inner, end)


def load_file(path: Path, dtype: Literal["float32", "bfloat16"]) -> LanguageModel:
    """See ``jaxrl.text.load``."""
    gguf = extras.package("gguf", "gguf")
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    found = {tensor.name: tensor for tensor in reader.tensors}
    model = model_of(fields, "output.weight" not in found, dtype)
    permuted = {"attn_q": model.num_heads, "attn_k": model.num_kv_heads or model.num_heads}
    names: set[str] = set()

    def take(name: str) -> np.ndarray:
        theirs = name_of(name)
        if theirs not in found:
            raise ValueError(f"path: {path} has no tensor {theirs}, which its metadata asks for")
        names.add(theirs)
        value = gguf.dequantize(found[theirs].data, found[theirs].tensor_type)
        part = theirs.split(".")[-2]
        if fields["general.architecture"] == "llama" and part in permuted:
            return halves(value, permuted[part])
        # GGUF stores all projections as [outputs, inputs], GPT-2's files in Hugging Face's format as [inputs, outputs].
        is_conv = part in ("attn_qkv", "attn_output", "ffn_up", "ffn_down") and value.ndim == 2
        return value.T if fields["general.architecture"] == "gpt2" and is_conv else value

    params = assemble(entries_of(model), take)
    left = sorted(set(found) - names)
    if left:
        raise ValueError(f"path: {path} has tensors that the model lacks: {', '.join(left[:3])}")
    check_shapes(model, params, f"path: {path}")
    end = fields.get("tokenizer.ggml.eos_token_id")
    return LanguageModel(model, params, tokenizer_of(fields, end), end)
