"""Models in Hugging Face's folders: ``config.json``, ``model*.safetensors``, ``tokenizer.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.text.extras import package
from jaxrl.text.tokenizer import BPE, Tokenizer
from jaxrl.text.transformer import Transformer, gpt2, llama
from jaxrl.text.weights import assemble, check_shapes, entries_of, family_of, tensors
from jaxrl.types import PyTree

Dtype = Literal["float32", "bfloat16"]
BUFFERS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Ends of names of tensors that are no parameters."""


class LanguageModel(NamedTuple):
    """A model with its parameters and its tokenizer.

    Attributes:
      model: the ``Transformer``.
      params: its parameters, float32.
      tokenizer: None if the file has none.
      end: the token that ends a text; None if there is none.
    """

    model: Transformer
    params: PyTree
    tokenizer: Tokenizer | None = None
    end: int | None = None


def _expect(config: Mapping[str, Any], allowed: Mapping[str, Any]) -> None:
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            words = ", ".join(repr(value) for value in values)
            raise ValueError(f"config.json: got {name}={config[name]!r}, supported is {words}")


def model_of(config: Mapping[str, Any], dtype: Dtype = "float32") -> Transformer:
    """The model of a ``config.json``.

    Raises:
      ValueError: it is of neither family, or has an option that ``Transformer`` lacks; the message names it.
    """
    family = config.get("model_type")
    if family == "gpt2":
        gelu = ("gelu_new", "gelu_pytorch_tanh")
        _expect(config, {"activation_function": gelu, "scale_attn_weights": (True,), "add_cross_attention": (False,)})
        _expect(config, {"scale_attn_by_inverse_layer_idx": (False,)})
        return gpt2(
            config["vocab_size"],
            width=config["n_embd"],
            num_layers=config["n_layer"],
            num_heads=config["n_head"],
            max_length=config["n_positions"],
            mlp_width=config.get("n_inner"),
            tied=config.get("tie_word_embeddings", True),
            epsilon=config.get("layer_norm_epsilon", 1e-5),
            dtype=dtype,
        )
    if family == "llama":
        width, heads = config["hidden_size"], config["num_attention_heads"]
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        _expect(config, {"hidden_act": ("silu",), "attention_bias": (False,), "mlp_bias": (False,)})
        _expect(config, {"head_dim": (width // heads, None)})
        _expect({"rope_type": rope.get("rope_type", rope.get("type", "default"))}, {"rope_type": ("default",)})
        return llama(
            config["vocab_size"],
            width=width,
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            max_length=config.get("max_position_embeddings", 2048),
            mlp_width=config["intermediate_size"],
            tied=config.get("tie_word_embeddings", False),
            epsilon=config.get("rms_norm_eps", 1e-6),
            rotary_base=float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
            dtype=dtype,
        )
    raise ValueError(f"config.json: got model_type={family!r}, supported is 'gpt2', 'llama'")


def config_of(model: Transformer, end: int | None = None) -> dict[str, Any]:
    """The ``config.json`` of a model.

    Raises:
      ValueError: the model is of neither family.
    """
    family = family_of(model)
    shared = {
        "model_type": family,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": model.tied,
        "torch_dtype": "float32",
        "bos_token_id": end,
        "eos_token_id": end,
    }
    if family == "gpt2":
        return shared | {
            "architectures": ["GPT2LMHeadModel"],
            "n_embd": model.width,
            "n_layer": model.num_layers,
            "n_head": model.num_heads,
            "n_positions": model.max_length,
            "n_inner": model.mlp_width,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": model.epsilon,
        }
    return shared | {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": model.width,
        "intermediate_size": model.mlp_width or 4 * model.width,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads or model.num_heads,
        "max_position_embeddings": model.max_length,
        "hidden_act": "silu",
        "rms_norm_eps": model.epsilon,
        "rope_theta": model.rotary_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rotary_base},
    }


def _tensors_in(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of the folder's ``model*.safetensors``, one file or several."""
    safetensors = package("safetensors", "text")
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise FileNotFoundError(f"path: {folder} has no model*.safetensors; other formats are not read")
    found: dict[str, np.ndarray] = {}
    for file in files:
        with safetensors.safe_open(file, framework="flax") as opened:  # NumPy alone has no bfloat16
            found |= {name: np.asarray(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
    return found


def load_folder(folder: Path, dtype: Dtype) -> LanguageModel:
    """See ``load``."""
    file = folder / "config.json"
    if not file.exists():
        raise FileNotFoundError(f"path: {folder} has no config.json, must be a folder in Hugging Face's format")
    config = json.loads(file.read_text())
    model = model_of(config, dtype)
    found = _tensors_in(folder)
    # GPT-2's own files leave out this prefix.
    prefix = "" if "wte.weight" in found else "transformer."
    names: set[str] = set()

    def take(name: str) -> np.ndarray:
        name = name.replace("transformer.", prefix, 1) if name.startswith("transformer.") else name
        if name not in found:
            raise ValueError(f"path: {folder} has no tensor {name}, which its config.json asks for")
        names.add(name)
        return found[name]

    params = assemble(entries_of(model), take)
    # Files may repeat the embeddings as the head that is tied to them.
    left = [
        n for n in found if n not in names and not n.endswith(BUFFERS) and not (model.tied and n == "lm_head.weight")
    ]
    if left:
        raise ValueError(f"path: {folder} has tensors that the model lacks: {', '.join(sorted(left)[:3])}")
    check_shapes(model, params, f"path: {folder}")
    end = config.get("eos_token_id")
    end = end[0] if isinstance(end, list) else end
    tokenizer = None
    if (folder / "tokenizer.json").exists():
        tokenizers = package("tokenizers", "text")
        tokenizer = BPE(tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")), end)
    return LanguageModel(model, params, tokenizer, end)


def load(path: str | Path, *, dtype: Dtype = "float32") -> LanguageModel:
    """Reads a language model of the GPT-2 or the Llama family from disk; nothing is downloaded.

    Needs the extra ``text``, or ``gguf`` for GGUF files: ``pip install "jaxrl[text]"``.

    Args:
      path: a folder in Hugging Face's format (``config.json``, ``model*.safetensors``, and ``tokenizer.json`` if it has
        one), or a GGUF file, whose weights are dequantised.
      dtype: dtype of the matrix products; parameters are float32.

    Returns:
      A ``LanguageModel``.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the model is of neither family, or has an option that ``Transformer`` lacks; the message names it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path: got {path}, which does not exist")
    if path.is_dir():
        language_model = load_folder(path, dtype)
    elif path.suffix == ".gguf":
        from jaxrl.text.gguf import load_file

        language_model = load_file(path, dtype)
    else:
        raise ValueError(f"path: got {path}, must be a folder in Hugging Face's format or a .gguf file")
    return language_model._replace(params=jax.tree.map(jnp.asarray, language_model.params))


def save(path: str | Path, language_model: LanguageModel) -> None:
    """Writes a folder in Hugging Face's format, which ``load`` and the ``transformers`` package read.

    A tokenizer of bytes has no file; give it again after loading.

    Args:
      path: the folder, which is made.
      language_model: a model of the GPT-2 or the Llama family.

    Raises:
      ValueError: the model is of neither family.
    """
    safetensors = package("safetensors.numpy", "text")
    model, params, tokenizer, end = language_model
    folder, config = Path(path), config_of(model, end)
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save_file(tensors(model, params), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if isinstance(tokenizer, BPE):
        tokenizer.inner.save(str(folder / "tokenizer.json"))
