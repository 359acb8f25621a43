"""``sft push`` to a hub of our own: what arrives is the clone, all of it and nothing else, however often pushed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import forked_python
import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("torch")

from loopback_hub import TOKEN
from toy_pushes import BASE, CLONE, Bench, elsewhere

PUBLISHED = {
    "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "generation_config.json",
    "scorecard.json", "sft_manifest.json", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


def test_a_clean_push_is_one_commit_of_the_clone_alone(bench: Bench) -> None:
    """Created private, one commit, verified, receipted; the base is named by its hub id and no path is in it."""
    done = bench.push()
    assert done.code == 0, done.err[-600:]
    assert set(bench.head) == PUBLISHED and bench.commits == 1
    assert bench.hub.repos[CLONE].private
    config = json.loads(bench.head["adapter_config.json"])
    assert config["base_model_name_or_path"] == BASE
    receipt = bench.receipt()
    assert receipt["commit"] == bench.hub.repos[CLONE].refs["main"] and receipt["commit"] in done.out
    assert set(receipt["files"]) == PUBLISHED
    for data in bench.head.values():
        assert str(bench.run).encode() not in data and b"/tmp/" not in data


#: Every request of a clean push to a repository that is not there, in order. A version of the client that adds one
#: fails here; look what it is for before adding it.
GOLDEN = """\
whoami         GET  /api/whoami-v2
info           GET  /api/models/me/clone/revision/main
info           GET  /api/models/me/tiny-base
create_repo    POST /api/repos/create
info           GET  /api/models/me/clone/revision/main
tree           GET  /api/models/me/clone/tree/ID
validate_yaml  POST /api/validate-yaml
preupload      POST /api/models/me/clone/preupload/main
lfs_batch      POST /me/clone.git/info/lfs/objects/batch
lfs_upload     PUT  /lfs/ID
lfs_verify     POST /lfs/ID/verify
commit         POST /api/models/me/clone/commit/main
tree           GET  /api/models/me/clone/tree/ID
"""


def test_the_requests_of_a_clean_push(bench: Bench) -> None:
    assert bench.push().code == 0
    golden = [line.split() for line in GOLDEN.splitlines()]
    for path in sorted(PUBLISHED):
        golden.append(["resolve", "HEAD", f"/{CLONE}/resolve/ID/{path}"])
        large = path.endswith(".safetensors")
        golden.append(["lfs_download", "GET", "/lfs/ID"] if large else ["resolve", "GET", golden[-1][2]])
    assert [list(one) for one in bench.hub.requests] == golden


def test_the_token_goes_to_the_hub_and_to_nobody_else(bench: Bench) -> None:
    """Large files come from another host, as in the world; what is asked of that one has no business with the token."""
    shown: dict[str, list[tuple[str, bool]]] = {}

    def noted(handler: Any, serve: Any) -> Any:
        kind = bench.hub.requests[-1][0]
        host = handler.headers["Host"].partition(":")[0]
        shown.setdefault(kind, []).append((host, TOKEN in str(handler.headers)))
        return serve()

    for kind in ("whoami", "commit", "lfs_upload", "lfs_download"):
        bench.hub.fault(kind, noted, times=1000)
    assert bench.push().code == 0
    assert shown["whoami"] == shown["commit"] == [("127.0.0.1", True)]
    assert shown["lfs_upload"] == shown["lfs_download"] == [("localhost", False)]


def test_a_dry_run_writes_nothing(bench: Bench) -> None:
    """The plan says what would go where; the hub gets questions only, and the run no receipt."""
    done = bench.push("--dry-run", "--tag", "v1")
    assert done.code == 0 and CLONE not in bench.hub.repos
    assert {method for _, method, _ in bench.hub.requests} == {"GET"}
    for word in (CLONE, bench.hub.endpoint, "as me", "private", "to be created", "v1", BASE, *PUBLISHED):
        assert word in done.out
    assert not (bench.run / "push.json").exists()
    plan = json.loads(bench.push("--dry-run", "--json").out)["plan"]
    assert {one["path"]: one["state"] for one in plan["files"]} == dict.fromkeys(PUBLISHED, "new")
    assert plan["bytes_to_send"] == sum(one["size"] for one in plan["files"]) and not plan["nothing_to_send"]


def test_pushed_again_it_sends_nothing(bench: Bench) -> None:
    """Equal content: no commit, verified all the same, exit 0; also without the receipt of the first time."""
    assert bench.push().code == 0
    (bench.run / "push.json").unlink()
    bench.hub.requests.clear()
    done = bench.push()
    assert done.code == 0 and "nothing was sent" in done.out and bench.commits == 1
    assert {method for _, method, _ in bench.hub.requests} <= {"GET", "HEAD"}
    assert bench.receipt()["commit"] == bench.hub.repos[CLONE].refs["main"]


def test_a_changed_clone_goes_on_top_and_takes_the_old_files_away(bench: Bench) -> None:
    """What ``from_pretrained`` would read and the clone no longer has is removed; what others put there stays."""
    assert bench.push().code == 0
    repo = bench.hub.repos[CLONE]
    stray = {"added_tokens.json": b"{}", "adapter_model.bin": b"old", "notes.txt": b"mine"}
    repo.add({**repo.commits[repo.refs["main"]].tree, **stray})
    (bench.run / "LICENSE").write_text("Do as you like.\n", encoding="utf-8")
    plan = json.loads(bench.push("--dry-run", "--json").out)["plan"]
    assert plan["removed"] == ["adapter_model.bin", "added_tokens.json"] and plan["kept"] == [
        ".gitattributes",
        "notes.txt",
    ]
    states = {one["path"]: one["state"] for one in plan["files"]}
    assert states["LICENSE"] == "new" and states["adapter_model.safetensors"] == "same"
    assert bench.push().code == 0
    assert set(bench.head) == PUBLISHED | {"LICENSE", "notes.txt"} and bench.commits == 3


def test_branch_and_tag(bench: Bench) -> None:
    """A branch is made where it is missing, main stays; the tag is set after verification and does not move."""
    assert bench.push("--revision", "trial", "--tag", "v1").code == 0
    repo = bench.hub.repos[CLONE]
    assert repo.tags == {"v1": repo.refs["trial"]} and bench.head == {}
    assert bench.hub.kinds()[-2:] == ["tag", "refs"]
    assert bench.push("--revision", "trial", "--tag", "v1").code == 0
    (bench.run / "LICENSE").write_text("Other words.\n", encoding="utf-8")
    done = bench.push("--revision", "trial", "--tag", "v1")
    assert done.code == 4 and "v1" in done.err and repo.pushes == 1


def test_a_pull_request_leaves_the_branch_alone(bench: Bench) -> None:
    """Once, however often it is asked for, and also after an answer that was lost."""
    from loopback_hub import answer_lost

    bench.hub.put(CLONE, {})
    bench.hub.fault("commit", answer_lost)
    for _ in range(2):
        done = bench.push("--create-pr")
        assert done.code == 0, done.err[-600:]
        assert "refs/pr/1" in done.out and bench.head == {} and bench.commits == 1
    assert bench.receipt()["pull_request"] == "refs/pr/1"


def test_a_clone_of_something_else_is_not_overwritten(bench: Bench) -> None:
    """Another base, another's weights: only with --replace, which leaves no mixture."""
    bench.hub.put(CLONE, {"model.safetensors": b"whole weights", "config.json": b"{}", "README.md": b"old"})
    done = bench.push()
    assert done.code == 4 and "--replace" in done.err and bench.commits == 1
    assert bench.push("--replace").code == 0
    assert set(bench.head) == PUBLISHED


def test_the_receipt_knows_every_place(bench: Bench) -> None:
    assert bench.push().code == 0 and bench.push("lab/clone").code == 0
    rows = json.loads((bench.run / "push.json").read_text(encoding="utf-8"))["pushes"]
    assert [row["repo"] for row in rows] == [CLONE, "lab/clone"]


LOADED = """
import sys, json

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sft":
            raise ImportError("sft is not installed here")

sys.meta_path.insert(0, Blocked())
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from peft import PeftConfig, PeftModel

repo = sys.argv[1]
config = PeftConfig.from_pretrained(repo)
tokenizer = AutoTokenizer.from_pretrained(repo)
base = AutoModelForCausalLM.from_pretrained(config.base_model_name_or_path, revision=config.revision)
model = PeftModel.from_pretrained(base, repo).eval()
stop = GenerationConfig.from_pretrained(repo).eos_token_id
turns = [{"role": "user", "content": "7: the box is red"}]
ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0, -1]
json.dump({"ids": ids, "logits": logits.tolist(), "stop": stop, "sft": "sft" in sys.modules}, sys.stdout)
"""


def test_whoever_has_the_id_loads_the_clone_without_this_package(bench: Bench, tmp_path: Path) -> None:
    """A process of its own, empty caches, plain transformers and peft: same ids, same logits, same stop token."""
    import torch

    from sft.demonstrations.demonstration import Message
    from sft.demonstrations.stored import load_recipe
    from sft.policies.policy import load_renderer, with_adapter
    from sft.policies.weights import load_weights
    from sft.recipes.sources import resolve_model
    from sft.runs.run import Run

    assert bench.push().code == 0
    program = elsewhere(bench.hub, tmp_path / "home") + LOADED
    answer = forked_python.run([sys.executable, "-c", program, CLONE], capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    recipe = load_recipe(Run.open(bench.run))
    renderer = load_renderer(resolve_model(recipe.model.name))
    model = with_adapter(load_weights(resolve_model(recipe.model.name)), bench.run / "adapter").eval()
    ids = renderer.prompt_ids((Message("user", "7: the box is red"),))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
    assert found["ids"] == ids and not found["sft"]
    assert torch.allclose(torch.tensor(found["logits"]), logits, atol=1e-6)
    assert found["stop"] == list(renderer.stop_token_ids)
    assert TOKEN not in answer.stderr
