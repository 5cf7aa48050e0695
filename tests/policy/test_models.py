"""Opening a model: what is accepted, what is refused, and in what words."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast as FastTokenizer

from gasp_rl.config import ModelConfig
from gasp_rl.errors import ModelError
from gasp_rl.policy.local import LocalEngine, choose_device, choose_dtype
from gasp_rl.policy.models import open_model
from gasp_rl.policy.tokenizer import HfTokenizer

MakeModel: TypeAlias = Callable[[PreTrainedConfig], PreTrainedModel]

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"


def byte_tokenizer(**options: str) -> PreTrainedTokenizerBase:
    """One token per byte, after <end> and <turn>."""
    vocabulary = {text: number for number, text in enumerate(["<end>", "<turn>", *ALPHABET])}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    make: Callable[..., PreTrainedTokenizerBase] = FastTokenizer
    return make(tokenizer_object=inner, **options)


@pytest.fixture
def model(make_model: MakeModel) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, bos_token_id=None, eos_token_id=[0, 1], pad_token_id=0,
    )  # fmt: skip
    return make_model(config)


@pytest.fixture
def directory(model: PreTrainedModel, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    model.save_pretrained(path)
    byte_tokenizer(eos_token="<end>").save_pretrained(path)
    return path


def refusal(path: Path | str) -> str:
    with pytest.raises(ModelError) as caught:
        open_model(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_directory_opens_in_float32_with_every_token_that_ends_a_text(
    directory: Path, model: PreTrainedModel
) -> None:
    opened, tokenizer = open_model(str(directory))

    assert {parameter.dtype for parameter in opened.parameters()} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(opened.parameters(), model.parameters(), strict=True))
    assert tokenizer.eos == 0
    assert tokenizer.all_eos == {0, 1}


def test_weights_kept_in_bfloat16_are_opened_in_float32(directory: Path, model: PreTrainedModel) -> None:
    torch.nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(directory)

    opened, _ = open_model(str(directory))

    assert {parameter.dtype for parameter in opened.parameters()} == {torch.float32}


def test_an_engine_opens_as_its_settings_say(directory: Path) -> None:
    engine = LocalEngine.open(
        ModelConfig(path=str(directory), device="cpu", dtype="float32", threads=1), token_budget=100
    )

    assert torch.get_num_threads() == 1
    assert engine.context == 32
    assert engine.version == 0


def test_a_path_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")


def test_a_pickle_is_refused_with_the_way_out(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    torch.save({}, directory / "pytorch_model.bin")

    assert "pytorch_model.bin" in refusal(directory)
    assert "save_pretrained" in refusal(directory)


@pytest.mark.parametrize("name", ["weights.pt", "model.pth", "model.bin"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"whatever")

    assert "neither a directory nor a .gguf file" in refusal(tmp_path / name)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    assert "no *.safetensors" in refusal(tmp_path)


def test_a_truncated_file_of_weights_is_refused(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])

    assert "cannot be loaded" in refusal(directory)


def test_weights_of_another_shape_are_refused(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))

    assert "cannot be loaded" in refusal(directory)


def test_weights_that_are_missing_are_refused(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))

    assert "lacks weights" in refusal(directory)


@pytest.mark.parametrize("text", ["", "{", "[1, 2"])
def test_a_broken_config_is_refused(directory: Path, text: str) -> None:
    (directory / "config.json").write_text(text)

    assert "not valid JSON" in refusal(directory)


def test_a_directory_without_config_is_refused(directory: Path) -> None:
    (directory / "config.json").unlink()

    assert "no config.json" in refusal(directory)


def test_a_directory_without_tokenizer_is_refused(directory: Path) -> None:
    for file in directory.glob("tokenizer*"):
        file.unlink()

    assert "cannot be loaded" in refusal(directory)


def test_code_beside_a_model_is_never_run(directory: Path, tmp_path: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    remote = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (directory / "config.json").write_text(json.dumps(config | remote))
    (directory / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    assert "cannot be loaded" in refusal(directory)
    assert not (tmp_path / "ran").exists()
    assert "mine" not in sys.modules


def test_a_tokenizer_without_an_end_of_text_is_refused(directory: Path) -> None:
    byte_tokenizer().save_pretrained(directory)

    assert "no end-of-text token" in refusal(directory)


def test_a_gguf_file_opens_by_itself_or_in_its_directory(tmp_path: Path, model: PreTrainedModel) -> None:
    file = write_gguf(tmp_path / "tiny.gguf", model)

    opened, tokenizer = open_model(str(file))
    again, _ = open_model(str(tmp_path))

    for name, weight in opened.state_dict().items():
        assert torch.allclose(weight, model.state_dict()[name], atol=1e-6), name
        assert torch.equal(weight, again.state_dict()[name])
    assert tokenizer.decode(tokenizer.encode("def f(x):\n  é")) == "def f(x):\n  é"


def test_two_gguf_files_want_a_choice(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")

    assert "2 GGUF files" in refusal(tmp_path)


def test_a_broken_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUFnothing")

    assert "cannot be loaded" in refusal(tmp_path / "a.gguf")


def test_chat_ends_where_the_reply_begins() -> None:
    tokenizer = HfTokenizer(byte_tokenizer(eos_token="<end>", chat_template=TEMPLATE))

    tokens = tokenizer.chat([("system", "be brief"), ("user", "hello")])

    assert tokenizer.decode(tokens) == "[system]be brief[user]hello[assistant]"


def test_a_reply_that_was_begun_is_left_open() -> None:
    tokenizer = HfTokenizer(byte_tokenizer(eos_token="<end>", chat_template=TEMPLATE))

    tokens = tokenizer.chat([("user", "hello"), ("assistant", "Hello! My")])

    assert tokenizer.decode(tokens) == "[user]hello[assistant]Hello! My"


def test_a_model_without_a_chat_template_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"model\.prompts"):
        HfTokenizer(byte_tokenizer(eos_token="<end>")).chat([("user", "hello")])


def test_nothing_is_added_to_a_text_and_only_its_end_is_dropped() -> None:
    tokenizer = HfTokenizer(byte_tokenizer(eos_token="<end>"), more_eos=[1])
    text = "if a:\n    b  =  c ,  d !  é 漢\t"

    tokens = tokenizer.encode(text)

    assert len(tokens) == len(text.encode())
    assert tokenizer.decode([*tokens, 1, 0]) == text
    assert tokenizer.encode("") == ()


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ModelError, match=r"model\.device"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


def test_a_dtype_that_is_asked_for_is_taken() -> None:
    cpu = torch.device("cpu")

    assert choose_dtype("bfloat16", cpu) is torch.bfloat16
    assert choose_dtype("float32", cpu) is torch.float32
    assert choose_dtype("auto", cpu) in (torch.float32, torch.bfloat16)


def write_gguf(path: Path, model: PreTrainedModel) -> Path:
    """The model as llama.cpp would keep it: its own names, and query and key rows in interleaved rotary order."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<end>", "<turn>", *ALPHABET, "th"])
    writer.add_token_types([3, 3, *[1] * len(ALPHABET), 1])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)

    def interleaved(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
        return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)

    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm"}  # fmt: skip
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    writer.add_tensor("output.weight", weights["lm_head.weight"])
    for theirs, ours in names.items():
        weight = weights[f"model.layers.0.{theirs}.weight"]
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(ours)
        writer.add_tensor(f"blk.0.{ours}.weight", interleaved(weight, heads) if heads else weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_copied_directory_opens_the_same(directory: Path, tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "copy")

    here, there = open_model(str(directory))[0], open_model(str(tmp_path / "copy"))[0]

    assert all(torch.equal(a, b) for a, b in zip(here.parameters(), there.parameters(), strict=True))


@pytest.mark.slow
def test_a_name_that_is_neither_here_nor_on_the_hub_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gasp_rl.cli", "train", "micro-gasp", "--model.path", "nowhere"]
    env = {**os.environ, "PYTHONPATH": str(Path("src").resolve()), "HF_HUB_OFFLINE": "1"}

    process = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, env=env, check=False
    )

    assert process.returncode == 2
    assert process.stderr.startswith("gasp: model.path 'nowhere' is neither here nor to be had from the model hub")
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
