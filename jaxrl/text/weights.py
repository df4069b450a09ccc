"""Which tensors of a file a parameter is made of, for the GPT-2 and the Llama family."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.text.transformer import Transformer
from jaxrl.types import PyTree

FAMILIES = {
    "gpt2": {"norm": "layer", "positions": "learned", "mlp": "gelu", "bias": True},
    "llama": {"norm": "rms", "positions": "rotary", "mlp": "swiglu", "bias": False},
}
"""The fields of ``Transformer`` that make a model one of a family."""


class Entry(NamedTuple):
    """A parameter and its tensors.

    Attributes:
      path: the keys in the tree of parameters.
      names: the tensors that are concatenated to it along their first axis.
      transposed: whether they are stored as ``[outputs, inputs]`` and the parameter as ``[inputs, outputs]``.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    transposed: bool = False


def _norm(path: tuple[str, ...], name: str, bias: bool) -> list[Entry]:
    scale = Entry((*path, "scale"), (f"{name}.weight",))
    return [scale, Entry((*path, "bias"), (f"{name}.bias",))] if bias else [scale]


def gpt2_entries(num_layers: int, tied: bool) -> list[Entry]:
    """The tensors of GPT-2 in Hugging Face's files. Its projections are stored as ``[inputs, outputs]``."""
    entries = [
        Entry(("embedding", "embedding"), ("transformer.wte.weight",)),
        Entry(("position_embedding", "embedding"), ("transformer.wpe.weight",)),
        *_norm(("final_norm",), "transformer.ln_f", bias=True),
    ]
    for i in range(num_layers):
        layer, prefix = f"layers_{i}", f"transformer.h.{i}"
        entries += _norm((layer, "attention_norm"), f"{prefix}.ln_1", bias=True)
        entries += _norm((layer, "mlp_norm"), f"{prefix}.ln_2", bias=True)
        for ours, theirs in (
            ("query_key_value", "attn.c_attn"),
            ("attention_output", "attn.c_proj"),
            ("mlp_hidden", "mlp.c_fc"),
            ("mlp_output", "mlp.c_proj"),
        ):
            entries.append(Entry((layer, ours, "kernel"), (f"{prefix}.{theirs}.weight",)))
            entries.append(Entry((layer, ours, "bias"), (f"{prefix}.{theirs}.bias",)))
    return entries if tied else [*entries, Entry(("head", "kernel"), ("lm_head.weight",), True)]


def llama_entries(num_layers: int, tied: bool) -> list[Entry]:
    """The tensors of Llama in Hugging Face's files. Its projections are stored as ``[outputs, inputs]``."""
    entries = [
        Entry(("embedding", "embedding"), ("model.embed_tokens.weight",)),
        *_norm(("final_norm",), "model.norm", bias=False),
    ]
    for i in range(num_layers):
        layer, prefix = f"layers_{i}", f"model.layers.{i}"
        attention, mlp = f"{prefix}.self_attn", f"{prefix}.mlp"
        joined = tuple(f"{attention}.{part}_proj.weight" for part in "qkv")
        entries += _norm((layer, "attention_norm"), f"{prefix}.input_layernorm", bias=False)
        entries += _norm((layer, "mlp_norm"), f"{prefix}.post_attention_layernorm", bias=False)
        entries += [
            Entry((layer, "query_key_value", "kernel"), joined, True),
            Entry((layer, "attention_output", "kernel"), (f"{attention}.o_proj.weight",), True),
            Entry((layer, "mlp_hidden", "kernel"), (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight"), True),
            Entry((layer, "mlp_output", "kernel"), (f"{mlp}.down_proj.weight",), True),
        ]
    return entries if tied else [*entries, Entry(("head", "kernel"), ("lm_head.weight",), True)]


def family_of(model: Transformer) -> str:
    """``"gpt2"`` or ``"llama"``.

    Raises:
      ValueError: the model is of neither family.
    """
    for family, fields in FAMILIES.items():
        if all(getattr(model, name) == value for name, value in fields.items()):
            return family
    given = ", ".join(f"{name}={getattr(model, name)!r}" for name in FAMILIES["gpt2"])
    raise ValueError(f"model: got {given}, must have the fields of GPT-2 or of Llama; make it by gpt2() or llama()")


def entries_of(model: Transformer) -> list[Entry]:
    """The entries of all parameters of a model."""
    return {"gpt2": gpt2_entries, "llama": llama_entries}[family_of(model)](model.num_layers, model.tied)


def assemble(entries: Iterable[Entry], take: Callable[[str], np.ndarray]) -> PyTree:
    """Parameters, float32 NumPy arrays, of the tensors that ``take(name)`` returns."""
    params: dict[str, Any] = {}
    for entry in entries:
        parts = [np.asarray(take(name), np.float32) for name in entry.names]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=0)
        node = params
        for key in entry.path[:-1]:
            node = node.setdefault(key, {})
        node[entry.path[-1]] = np.ascontiguousarray(joined.T) if entry.transposed else joined
    return {"params": params}


def tensors(model: Transformer, params: PyTree) -> dict[str, np.ndarray]:
    """The inverse of ``assemble``: the tensors of a file by their names."""
    result = {}
    head = model.width // model.num_heads
    key_value = head * (model.num_kv_heads or model.num_heads)
    for entry in entries_of(model):
        value = params["params"]
        for key in entry.path:
            value = value[key]
        whole = np.asarray(value, np.float32)
        whole = whole.T if entry.transposed else whole
        cuts = {1: [], 2: [len(whole) // 2], 3: [model.width, model.width + key_value]}[len(entry.names)]
        for name, part in zip(entry.names, np.split(whole, cuts, axis=0), strict=True):
            result[name] = np.ascontiguousarray(part)
    return result


def check_shapes(model: Transformer, params: PyTree, where: str) -> None:
    """Raises a ValueError that names the first parameter whose shape is not the model's."""
    wanted = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool))
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        given = params
        for key in path:
            given = given[key.key]
        if given.shape != leaf.shape:
            name = "/".join(str(key.key) for key in path[1:])
            raise ValueError(f"{where}: got {name} of shape {list(given.shape)}, its config says {list(leaf.shape)}")
