"""Parts of training: batches, focus, optimizers, rates, loss, states."""

from __future__ import annotations

import io
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cadmus_gym as cg
from cadmus_gym.training import batches, states
from cadmus_gym.training.focus import START, Focus, fill_kinds
from cadmus_gym.training.optimizers import make_optimizers, rate_at
from cadmus_gym.transformer.loss import losses
from cadmus_gym.transformer.model import ModelConfig, Transformer, with_bos


def test_the_loss_of_a_program_does_not_depend_on_its_batch() -> None:
    model = Transformer(ModelConfig(16, 2, 2), seed=1).double()
    stream = cg.Stream("Cadmus-Arith-v0", seed=3)
    programs, ends = stream.batch(0, 24)
    lengths = batches.program_lengths(programs)
    alone = [
        losses(model, torch.from_numpy(row[None, :length]), torch.tensor([end]))
        for row, length, end in zip(programs, lengths, ends, strict=True)
    ]
    wide = losses(model, torch.from_numpy(programs), torch.from_numpy(ends))
    chunks = batches.cut_chunks(batches.draw(stream, np.arange(24)), "big", [0, 8, 24])
    cut = [losses(model, chunk.tokens, chunk.prompt_lengths) for chunk in chunks]
    order = np.argsort(lengths, kind="stable")
    for part in range(2):
        expected = torch.cat([sums[part] for sums in alone])
        assert torch.allclose(wide[part], expected, rtol=1e-5)
        assert torch.allclose(torch.cat([sums[part] for sums in cut]), expected[order], rtol=1e-5)

    program, end = programs[0, : lengths[0]], int(ends[0])
    log_probs = model(with_bos(torch.from_numpy(program[None]))[:, :-1])[0].log_softmax(-1)
    each = -log_probs[torch.arange(len(program)), torch.from_numpy(program).long()]
    assert alone[0][0].item() == pytest.approx(each[:end].sum().item(), rel=1e-5)
    assert alone[0][1].item() == pytest.approx(each[end:].sum().item(), rel=1e-5)


def test_chunks_hold_every_program_once_with_little_padding() -> None:
    stream = cg.Stream({"Cadmus-Arith-v0": 1, "Cadmus-Compare-v0": 1}, seed=3)
    programs, ends = stream.batch(0, 256)
    cuts = batches.plan_chunks(batches.program_lengths(stream.batch(0, 4096)[0]), 256)
    assert 1 < len(cuts) - 1 < 10
    assert all((stop - start) % batches.ROWS == 0 for start, stop in pairwise(cuts))
    seen, padded = [], 0
    batch = batches.draw(stream, np.arange(256))
    for chunk in batches.cut_chunks(batch, "big", cuts):
        padded += chunk.tokens.numel()
        assert (chunk.tokens[:, -1] != 0).any()
        rows = [bytes(row[row != 0].tolist()) for row in chunk.tokens.numpy()]
        assert chunk.lengths.tolist() == [len(row) for row in rows]
        seen += zip(rows, chunk.prompt_lengths.tolist(), batch.parts[chunk.rows].tolist(), strict=True)
    rows = [bytes(row[row != 0].tolist()) for row in programs]
    compares = [cg.decode(list(row[end:])) in ("end", "not end") for row, end in zip(rows, ends, strict=True)]
    assert sorted(seen) == sorted(zip(rows, ends.tolist(), map(int, compares), strict=True))
    assert padded < 1.3 * (programs != 0).sum()
    assert batches.plan_chunks([5, 9], 3) == [0, 3]
    assert batches.plan_chunks([7] * 100, 1024) == [0, 1024]  # of equal length, so a cut gains nothing
    assert batches.plan_chunks([100] * 9, 512) == [0, 32, 192, 352, 512]  # no pass has more than 16,384 tokens


def kinds_of(*prompts: str, parts: tuple[int, ...] = ()) -> list[int]:
    programs = [cg.assemble(prompt) for prompt in prompts]
    rows = np.zeros((len(programs), 20), np.uint8)
    for row, program in zip(rows, programs, strict=True):
        row[: program.size] = program
    kinds = np.zeros(len(programs), np.int64)
    lengths = np.array([program.size for program in programs], np.int32)
    fill_kinds(rows, lengths, np.array(parts or [0] * len(programs)), kinds)
    return list(kinds.tolist())


def test_a_kind_is_a_prompt_without_digits_and_its_part_of_the_mixture() -> None:
    same = kinds_of("12 7 add", "3 99 add", "123 0 add")
    assert len(set(same)) == 1
    assert len(set(kinds_of("12 7 add", "12 7 sub", "12 neg 7 add", "1 2 3 add add", "12 7 add 3 add"))) == 5
    assert len(set(kinds_of("12 7 add", "12 7 add", parts=(0, 1)))) == 2


def test_focus_chooses_in_proportion_to_the_loss_and_other_rows_take_the_first() -> None:
    focus, random = Focus(among=4), np.random.default_rng(0)
    kinds = np.arange(4)
    for _ in range(400):  # means become 1, 2, 3 and 4
        focus.learn(focus.sums(kinds, np.array([1.0, 2.0, 3.0, 4.0])))
    assert focus.losses[:4] == pytest.approx([1, 2, 3, 4], rel=1e-2)
    assert (focus.losses[4:] == START).all()
    drawn = np.arange(40_000) % 2 == 0
    chosen = focus.choose(np.tile(kinds, (40_000, 1)), drawn, random.random(40_000))
    assert (chosen[~drawn] == 0).all()
    assert np.bincount(chosen[drawn]) / 20_000 == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.015)
    focus.losses[:] = 0.0  # without any loss there is no division by zero
    assert set(focus.choose(np.tile(kinds, (8, 1)), drawn[:8], random.random(8)).tolist()) <= {0, 1, 2, 3}

    one, other = Focus(), Focus()  # the mean after a batch is about that after its programs one by one
    one.learn(one.sums(np.zeros(50, np.int64), np.full(50, 2.0)))
    for _ in range(50):
        other.learn(other.sums(np.zeros(1, np.int64), np.full(1, 2.0)))
    assert one.losses[0] == pytest.approx(other.losses[0])


def test_rates_rise_hold_and_fall_linearly() -> None:
    rates = [rate_at(step, 100, warmup=0.1, decay=0.5) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10:51] == [1.0] * 41
    assert rates[50:] == pytest.approx([1 - 0.02 * k for k in range(50)])
    assert rate_at(0, 1, 0.0, 0.0) == 1.0


def test_each_weight_has_one_optimizer_and_only_matrices_in_layers_decay() -> None:
    model = Transformer(ModelConfig(16, 2, 2, tied=False))
    names = {id(weight): name for name, weight in model.named_parameters()}
    for muon_rate in (1e-2, None):
        found = make_optimizers(model, muon_rate, 1e-3, weight_decay=0.1)
        groups = [(kind, group) for kind, optimizer in found.items() for group in optimizer.param_groups]
        placed = [names[id(weight)] for _, group in groups for weight in group["params"]]
        assert sorted(placed) == sorted(names.values())
        decaying = [(kind, group) for kind, group in groups if group["weight_decay"] > 0]
        assert len(decaying) == 1
        kind, group = decaying[0]
        assert kind == ("muon" if muon_rate else "adamw")
        assert group["peak"] == (muon_rate or 1e-3)
        assert all(names[id(weight)].endswith("_proj.weight") for weight in group["params"])
        assert len(group["params"]) == 2 * 7


def test_states_survive_a_failing_write_and_are_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states.load_state(tmp_path, print) is None
    for step in (5, 10, 15):
        states.save_state(tmp_path, step, {"step": step, "weight": torch.full((3,), step / 7)})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            states.save_state(tmp_path, 20, {"step": 20})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:9] for name in names] == ["000000010", "000000015"]
    state = states.load_state(tmp_path, print)
    assert state is not None
    assert state["step"] == 15
    assert torch.equal(state["weight"], torch.full((3,), 15 / 7))

    reported: list[str] = []
    (tmp_path / names[1]).write_bytes((tmp_path / names[1]).read_bytes()[:-1])
    state = states.load_state(tmp_path, reported.append)
    assert state is not None
    assert state["step"] == 10
    assert names[1] in reported[0]
    states.save_state(tmp_path, 15, {"step": 15})  # replaces the damaged one
    assert not (tmp_path / names[1]).exists()
    assert len(list(tmp_path.iterdir())) == 2
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="all of its 2 states are damaged"):
        states.load_state(tmp_path, reported.append)


class Pickled:
    """Runs a command if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


def test_a_state_with_an_object_in_it_is_refused(tmp_path: Path) -> None:
    path = states.save_state(tmp_path, 1, {"step": 1})
    buffer = io.BytesIO()
    torch.save({"step": Pickled()}, buffer)
    path.unlink()
    (tmp_path / f"000000001-{states._digits(buffer.getvalue())}.pt").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"000000001-\w+.pt is not a training state: Weights only load failed"):
        states.load_state(tmp_path, print)
