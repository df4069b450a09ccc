"""Files of both families: against transformers' numbers, a NumPy forward pass, and transformers if it is there."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxrl import text
from jaxrl.text.hugging_face import config_of, model_of
from jaxrl.text.weights import tensors
from tests.text import oracle

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = ("gpt2", "llama")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(family):
    return text.load(GOLDEN / family)


@pytest.fixture(scope="module")
def golden(family):
    return dict(np.load(GOLDEN / family / "outputs.npz"))


@pytest.fixture(scope="module")
def forward(loaded, golden):
    """The logits of parameters on the golden texts, compiled once."""
    compiled = jax.jit(lambda params: loaded.model.apply(params, golden["tokens"], golden["mask"])[0])
    return lambda params: np.asarray(compiled(params))


def worst(logits, golden):
    return np.abs(logits - golden["logits"])[golden["mask"]].max()


def test_logits_are_those_of_transformers(loaded, golden, forward):
    assert worst(forward(loaded.params), golden) < 1e-4


def test_logits_are_those_of_a_numpy_forward_pass(family, loaded, golden, forward):
    config = json.loads((GOLDEN / family / "config.json").read_text())
    weights = load_file(GOLDEN / family / "model.safetensors")
    logits = forward(loaded.params)
    for row, mask in enumerate(golden["mask"]):
        expected = getattr(oracle, family)(weights, config, golden["tokens"][row][mask])
        np.testing.assert_allclose(logits[row][mask], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["attention_output", "query_key_value"])
def test_a_transposed_projection_is_seen(loaded, golden, forward, name):
    """The mutant: a projection read as [outputs, inputs], which for a square one changes no shape."""
    kernel = loaded.params["params"]["layers_0"][name]["kernel"]
    square = min(kernel.shape)
    wrong = np.array(kernel)
    wrong[:square, :square] = kernel[:square, :square].T
    layer = {
        **loaded.params["params"]["layers_0"],
        name: {**loaded.params["params"]["layers_0"][name], "kernel": wrong},
    }
    assert worst(forward({"params": {**loaded.params["params"], "layers_0": layer}}), golden) > 1e-2


def test_greedy_completions_are_those_of_transformers(loaded, golden):
    num = golden["greedy"].shape[1]
    completion = text.generate(
        jax.random.key(0),
        loaded.params,
        loaded.model,
        golden["tokens"],
        golden["mask"],
        num_tokens=num,
        end=loaded.end,
        temperature=0.0,
    )
    np.testing.assert_array_equal(completion.tokens, golden["greedy"])
    assert loaded.end == 5


def test_saved_files_are_read_back_and_equal(loaded, family, tmp_path):
    text.save(tmp_path, loaded)
    again = text.load(tmp_path)
    assert again.model == loaded.model and again.end == loaded.end
    jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
    original = load_file(GOLDEN / family / "model.safetensors")
    written = load_file(tmp_path / "model.safetensors")
    assert set(written) == set(original)
    for name, value in written.items():
        np.testing.assert_array_equal(value, original[name])


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_saved_files_are_read_by_transformers(loaded, golden, tmp_path):
    import torch
    import transformers

    text.save(tmp_path, loaded)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    logits = model(torch.as_tensor(golden["tokens"][:1])).logits.detach().numpy()
    np.testing.assert_allclose(logits, golden["logits"][:1], atol=1e-4)


def test_bfloat16_and_shards_and_a_missing_prefix_are_read(tmp_path):
    import jax.numpy as jnp
    from safetensors.flax import save_file as save_flax

    weights = load_file(GOLDEN / "gpt2" / "model.safetensors")
    short = {name.removeprefix("transformer."): jnp.asarray(x, jnp.bfloat16) for name, x in weights.items()}
    names = sorted(short)
    for i in range(2):
        save_flax({name: short[name] for name in names[i::2]}, tmp_path / f"model-0000{i + 1}-of-00002.safetensors")
    shutil.copy(GOLDEN / "gpt2" / "config.json", tmp_path)
    params = text.load(tmp_path).params["params"]
    expected = np.asarray(jnp.asarray(weights["transformer.h.1.mlp.c_fc.weight"], jnp.bfloat16), np.float32)
    np.testing.assert_array_equal(params["layers_1"]["mlp_hidden"]["kernel"], expected)


def test_the_tokenizer_is_that_of_transformers():
    sentence = json.loads((GOLDEN / "sentence.json").read_text())
    tokenizer = text.load(GOLDEN / "llama").tokenizer
    assert tokenizer.encode(sentence["text"]) == sentence["tokens"]
    assert tokenizer.decode(sentence["tokens"]) == sentence["text"]
    assert text.load(GOLDEN / "gpt2").tokenizer is None


@pytest.mark.parametrize(
    ("family", "change", "named"),
    [
        ("gpt2", {"activation_function": "relu"}, "activation_function='relu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ("gpt2", {"model_type": "bert"}, "model_type='bert'"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}}, "rope_type='llama3'"),
        ("llama", {"attention_bias": True}, "attention_bias=True"),
        ("llama", {"head_dim": 4}, "head_dim=4"),
    ],
)
def test_what_is_not_supported_is_refused(family, change, named):
    config = json.loads((GOLDEN / family / "config.json").read_text())
    with pytest.raises(ValueError, match=named):
        model_of({**config, **change})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("transformer.ln_f.bias"), "ln_f.bias"),
        (lambda weights: weights.update({"transformer.h.0.extra": np.zeros(2, np.float32)}), "h.0.extra"),
        (lambda weights: weights.update({"transformer.ln_f.bias": np.zeros(7, np.float32)}), "final_norm/bias"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, named):
    weights = load_file(GOLDEN / "gpt2" / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    shutil.copy(GOLDEN / "gpt2" / "config.json", tmp_path)
    with pytest.raises(ValueError, match=named):
        text.load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json"):
        text.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        text.load(tmp_path / "nowhere")


def test_a_model_of_neither_family_is_not_saved():
    with pytest.raises(ValueError, match="norm='rms'"):
        config_of(text.gpt2(9, width=8, num_layers=1, num_heads=1, max_length=4, norm="rms"))


@pytest.mark.parametrize("family", FAMILIES)
def test_gguf_equals_the_folder(family, tmp_path):
    """Written by the ``gguf`` package as llama.cpp's converter does: queries and keys in neighbouring pairs."""
    import gguf

    loaded = text.load(GOLDEN / family)
    model = loaded.model
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", family)
    writer.add_block_count(model.num_layers)
    writer.add_context_length(model.max_length)
    writer.add_embedding_length(model.width)
    writer.add_feed_forward_length(model.mlp_width or 4 * model.width)
    writer.add_head_count(model.num_heads)
    writer.add_head_count_kv(model.num_kv_heads or model.num_heads)
    writer.add_layer_norm_eps(model.epsilon)
    writer.add_layer_norm_rms_eps(model.epsilon)
    writer.add_rope_freq_base(model.rotary_base)
    writer.add_eos_token_id(5)
    writer.add_tokenizer_model("none")
    writer.add_token_list([str(i) for i in range(model.vocab_size)])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.upper()], model.num_layers)
    for name, value in tensors(model, loaded.params).items():
        if family == "gpt2" and "wte" not in name and "wpe" not in name and value.ndim == 2:
            value = value.T
        for part, heads in (("q_proj", model.num_heads), ("k_proj", model.num_kv_heads)):
            if part in name:
                value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = text.load(tmp_path / "model.gguf")
    assert read.end == 5 and read.tokenizer is None
    assert read.model.rotary_base == pytest.approx(model.rotary_base)
    jax.tree.map(np.testing.assert_array_equal, read.params, loaded.params)
