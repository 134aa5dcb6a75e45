"""Saving a model never loses anything, and never leaves a half-written model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.checkpoints import SMALL, model_of, same
from torch import nn

from cadmus_gym.files import standing
from cadmus_gym.transformer import checkpoint, model_files
from cadmus_gym.transformer.checkpoint import (
    CARD,
    CONFIG,
    GENERATION,
    WEIGHTS,
    WRITTEN,
    check_target,
    load_model,
    save_model,
    write_card,
)
from cadmus_gym.transformer.model import ModelConfig, Transformer
from cadmus_gym.transformer.tokenizer import write_tokenizer

ROOT = Path(__file__).resolve().parents[2]


def test_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "events.out").write_text("precious")
    for folder, message in ((tmp_path, r"holds events\.out and no model"), (tmp_path / "events.out", "is a file")):
        with pytest.raises(ValueError, match=message):
            save_model(model_of(), folder, {})
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / CONFIG).write_text("{}")
    with pytest.raises(ValueError, match=r"holds config\.json and no model of this package"):
        save_model(model_of(), tmp_path / "settings", {})
    # A model of another kind, too.
    (tmp_path / WEIGHTS).write_bytes(b"")
    (tmp_path / CONFIG).write_text('{"model_type": "llama", "vocab_size": 128256}')
    with pytest.raises(ValueError, match=r"holds config\.json and no model of this package"):
        save_model(model_of(), tmp_path, {})
    assert (tmp_path / "events.out").read_text() == "precious"
    with pytest.raises(ValueError, match=r"x cannot be written: .*events\.out is a file"):
        check_target(tmp_path / "events.out" / "x")


def test_save_model_keeps_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    save_model(model_of(), folder, {})
    (folder / ".DS_Store").write_text("hidden")
    (folder / "special_tokens_map.json").write_text("{}")
    (folder / "notes").mkdir()
    (folder / "notes" / "one.txt").write_text("by hand")
    (folder / "link").symlink_to("nowhere")
    (folder / GENERATION).write_text("{}")
    save_model(model_of(seed=2), folder, {}, max_tokens=9)
    assert same(load_model(folder), model_of(seed=2))
    kept = {".DS_Store", "special_tokens_map.json", "notes", "link"}
    assert {path.name for path in folder.iterdir()} == {*WRITTEN, *kept}
    assert (folder / "notes" / "one.txt").read_text() == "by hand"
    assert (folder / "link").readlink() == Path("nowhere")
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    assert json.loads((folder / GENERATION).read_text()) == {**ends, "do_sample": False, "max_new_tokens": 9}
    save_model(model_of(), folder, {})
    assert json.loads((folder / GENERATION).read_text())["max_new_tokens"] == SMALL.context - 1
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds model-00001-of-00002\.safetensors, other weights"):
        save_model(model_of(), folder, {})


def test_files_that_may_precede_a_model(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / ".DS_Store").write_text("hidden")
    (tmp_path / "x" / "README.md").write_text("of a project")
    write_tokenizer(tmp_path / "x", "little")
    save_model(model_of(), tmp_path / "x", {})
    assert (tmp_path / "x" / ".DS_Store").read_text() == "hidden"
    assert (tmp_path / "x" / "README.md").read_text() == "of a project"
    (tmp_path / "x" / CONFIG).write_text("damaged")
    save_model(model_of(seed=2), tmp_path / "x", {})
    assert same(load_model(tmp_path / "x"), model_of(seed=2))
    (tmp_path / "x" / WEIGHTS).unlink()
    save_model(model_of(seed=3), tmp_path / "x", {})
    assert same(load_model(tmp_path / "x"), model_of(seed=3))


def test_the_working_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    for folder in (".", "", "..", "b/..", tmp_path / "a", tmp_path, "/"):
        with pytest.raises(ValueError, match="is or contains the working directory"):
            save_model(model_of(), folder, {})
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    save_model(model_of(), "b", {})
    assert same(load_model("b"), model_of())


def test_save_model_follows_links(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "run" / "model"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "disk" / "x")
    for seed in (1, 2):
        save_model(model_of(seed=seed), link, {})
        assert link.is_symlink()
        assert same(load_model(link), model_of(seed=seed))
    assert [path.name for path in link.parent.iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["x"]
    (tmp_path / "disk" / "x").rename(tmp_path / "disk" / "x.previous")  # as a crash between two renames leaves it
    assert same(load_model(link), model_of(seed=2))


def test_unwritable_folders_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(model_of(), tmp_path / "x", {})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os.path, "ismount", lambda path: path == tmp_path / "x")
        with pytest.raises(ValueError, match="x is a mount point, which cannot be replaced; name a folder in it"):
            save_model(model_of(), tmp_path / "x", {})
        save_model(model_of(), tmp_path / "x" / "y", {})
    monkeypatch.setattr(checkpoint.os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    for folder in (tmp_path / "x", tmp_path / "new" / "deep"):
        with pytest.raises(ValueError, match=f"cannot be written: {tmp_path} is read-only"):
            save_model(model_of(), folder, {})


class Wrapped(nn.Module):
    """Wraps a model as DistributedDataParallel does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_a_wrapped_model_is_saved_as_itself(tmp_path: Path) -> None:
    model = model_of()
    model.endian, model.card = "little", {"seed": 4}
    compiled = torch.compile(model, backend="eager")
    for wrapped in (compiled, Wrapped(model), Wrapped(compiled), torch.compile(Wrapped(model), backend="eager")):
        save_model(wrapped, tmp_path / "x")
        loaded = load_model(tmp_path / "x")
        assert same(loaded, model)
        assert (loaded.endian, loaded.card["seed"]) == ("little", 4)
    with pytest.raises(ValueError, match="model is a Linear; allowed: a Transformer"):
        save_model(Wrapped(nn.Linear(2, 2)), tmp_path / "x")
    assert same(load_model(tmp_path / "x"), model)


def renamed(model: Transformer) -> None:
    model.layers[0] = torch.compile(model.layers[0], backend="eager")


def resized(model: Transformer) -> None:
    model.embed_tokens = nn.Embedding(66, 32)


def deepened(model: Transformer) -> None:
    model.config = replace(model.config, layers=3)


def diverged(model: Transformer) -> None:
    with torch.no_grad():
        model.norm.weight[3] = float("nan")


def overflowing(model: Transformer) -> None:
    with torch.no_grad():
        model.norm.weight[3] = 1e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, r"the model: model\.layers\.0\._orig_mod\.\S+ is not part of the model"),
        (resized, r"the model: model\.embed_tokens\.weight has shape \(66, 32\); allowed by config\.json: \(65, 32\)"),
        (deepened, r"the model: model\.layers\.2\.\S+ is missing"),
        (diverged, r"model\.norm\.weight has weights that are NaN or infinite"),
        (overflowing, r"the model, in float16: model\.norm\.weight has weights that are NaN or infinite"),
    ],
)
def test_save_model_rejects_a_model_that_would_not_load(
    tmp_path: Path, change: Callable[[Transformer], None], message: str
) -> None:
    save_model(model_of(seed=2), tmp_path / "x", {})
    model = model_of()
    change(model)
    with pytest.raises(ValueError, match=message):
        save_model(model, tmp_path / "x", {}, torch.float16)
    assert same(load_model(tmp_path / "x"), model_of(seed=2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_stored_weights_must_be_finite(tmp_path: Path, value: float) -> None:
    save_model(model_of(), tmp_path, {})
    (tmp_path / CARD).unlink()
    weights = safetensors.torch.load_file(tmp_path / WEIGHTS)
    weights["model.norm.weight"][0] = value
    safetensors.torch.save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"model\.safetensors: model\.norm\.weight has weights that are NaN or"):
        load_model(tmp_path)


def test_checksums_ignore_line_ends(tmp_path: Path) -> None:
    """With core.autocrlf, Git writes text files with other line ends."""
    save_model(model_of(), tmp_path, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in WRITTEN:
        if name != WEIGHTS:
            (tmp_path / name).write_bytes(before[name].replace(b"\n", b"\r\n"))
    assert same(load_model(tmp_path), model_of())
    write_card(tmp_path, load_model(tmp_path).card)
    assert (tmp_path / CARD).read_bytes() == before[CARD]


def test_git_does_not_change_packaged_models(tmp_path: Path) -> None:
    """A clone with core.autocrlf, the default on Windows, has the same bytes in every packaged model."""
    packaged = sorted(path for path in model_files.PACKAGED.rglob("*") if path.is_file())

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@x")
        command = ["git", *identity, "-C", str(tmp_path / "source"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    for path in packaged:
        copy = tmp_path / "source" / path.relative_to(model_files.PACKAGED)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "source" / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "models")
    git("-c", "core.autocrlf=true", "clone", "--quiet", "--config", "core.autocrlf=true", ".", str(tmp_path / "clone"))
    for path in packaged:
        assert (tmp_path / "clone" / path.relative_to(model_files.PACKAGED)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("moment", ["weights", "sums", "first rename", "second rename"])
def test_a_crash_while_saving_keeps_the_previous_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder, first, second = tmp_path / "x", model_of(seed=1), model_of(seed=2)
    save_model(first, folder, {})

    class Crash(BaseException):
        """Stands for a kill: no code catches it."""

    def half_written(path: Path, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise Crash

    def crash(*_: object) -> str:
        raise Crash

    renames = 0
    rename = Path.rename

    def rename_until(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == (1 if moment == "first rename" else 2):
            raise Crash
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)  # a killed process cleans nothing up
        if moment == "weights":
            patch.setattr(Path, "write_bytes", half_written)
        elif moment == "sums":
            patch.setattr(checkpoint, "sha256", crash)
        else:
            patch.setattr(Path, "rename", rename_until)
        with pytest.raises(Crash):
            save_model(second, folder, {})
    assert same(load_model(folder), first)
    assert standing(folder).name == ("x.previous" if moment == "second rename" else "x")

    save_model(second, folder, {})  # and the next one succeeds
    assert same(load_model(folder), second)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_circular_link_and_too_long_name_are_rejected(tmp_path: Path) -> None:
    loop, long = tmp_path / "loop", tmp_path / ("a" * 300)
    loop.symlink_to("loop")
    model = Transformer(ModelConfig(width=8, layers=1, heads=2, context=16))
    for target in (loop, long):
        with pytest.raises(ValueError, match="cannot be written"):
            save_model(model, target)
        with pytest.raises((ValueError, FileNotFoundError), match=r"no such folder|cannot be read"):
            load_model(target)
    assert sorted(tmp_path.iterdir()) == [loop]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that fails when it is read")
@pytest.mark.parametrize("name", [CARD, CONFIG, WEIGHTS])
def test_error_names_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    save_model(Transformer(ModelConfig(width=8, layers=1, heads=2, context=16)), tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    (tmp_path / "model" / name).symlink_to("/proc/self/mem")
    with pytest.raises(ValueError, match="cannot be read"):
        load_model(tmp_path / "model")


def test_deeply_nested_json_is_detected(tmp_path: Path) -> None:
    save_model(Transformer(ModelConfig(width=8, layers=1, heads=2, context=16)), tmp_path / "model")
    (tmp_path / "model" / CARD).write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"card\.json is damaged"):
        load_model(tmp_path / "model")
