"""Both families in NumPy, float64, one text without padding at a time, on the tensors of a file."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v):
    """Heads one by one: ``q [T, H, E]``, ``k, v [T, K, E]``."""
    length, heads, size = q.shape
    share = heads // k.shape[1]
    rows = np.zeros((length, heads, size))
    for head in range(heads):
        for t in range(length):
            weights = softmax(k[: t + 1, head // share] @ q[t, head] / np.sqrt(size))
            rows[t, head] = weights @ v[: t + 1, head // share]
    return rows.reshape(length, -1)


def gpt2(tensors, config, ids):
    w = {name.removeprefix("transformer."): x.astype(np.float64) for name, x in tensors.items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    for i in range(config["n_layer"]):
        q, k, v = np.split(dense(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn"), 3, axis=-1)
        split = lambda y: y.reshape(len(ids), config["n_head"], -1)  # noqa: E731
        x = x + dense(attention(split(q), split(k), split(v)), f"h.{i}.attn.c_proj")
        x = x + dense(gelu(dense(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")), f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def llama(tensors, config, ids):
    w = {name: x.astype(np.float64) for name, x in tensors.items()}
    size = config["hidden_size"] // config["num_attention_heads"]
    base = (config.get("rope_parameters") or config)["rope_theta"]

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"]) * w[f"{name}.weight"]

    def turn(x):
        """Pairs as complex numbers, turned by their position."""
        pairs = x[..., : size // 2] + 1j * x[..., size // 2 :]
        angle = np.arange(len(ids))[:, None] / base ** (2 * np.arange(size // 2) / size)
        pairs = pairs * np.exp(1j * angle)[:, None]
        return np.concatenate([pairs.real, pairs.imag], axis=-1)

    x = w["model.embed_tokens.weight"][ids]
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        y = norm(x, f"{layer}.input_layernorm")
        q, k, v = (
            (y @ w[f"{layer}.self_attn.{part}_proj.weight"].T).reshape(len(ids), -1, size) for part in ("q", "k", "v")
        )
        x = x + attention(turn(q), turn(k), v) @ w[f"{layer}.self_attn.o_proj.weight"].T
        y = norm(x, f"{layer}.post_attention_layernorm")
        gate = y @ w[f"{layer}.mlp.gate_proj.weight"].T
        up = y @ w[f"{layer}.mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"{layer}.mlp.down_proj.weight"].T
    return norm(x, "model.norm") @ w["lm_head.weight"].T
