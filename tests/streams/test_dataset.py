"""A stream as a torch dataset: all workers and ranks together yield the stream."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import cadmus_gym as cg

ID = "Cadmus-Arith-v0"


def rows(dataset: cg.StreamDataset, workers: int = 0) -> list[dict[str, torch.Tensor]]:
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None, num_workers=workers)
    return list(loader)


def test_a_dataset_yields_the_stream() -> None:
    batches = rows(cg.StreamDataset(ID, "test", 3, start=50, count=210, batch_size=64))
    programs, lengths = cg.Stream(ID, "test", 3).batch(50, 210)
    assert [len(batch["tokens"]) for batch in batches] == [64, 64, 64, 18]
    assert {key: value.dtype for key, value in batches[0].items()} == dict.fromkeys(batches[0], torch.int64)
    assert np.array_equal(torch.cat([batch["tokens"] for batch in batches]), programs)
    assert np.array_equal(torch.cat([batch["prompt_length"] for batch in batches]), lengths)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(50, 260))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_yields_the_same_batches_in_order(workers: int) -> None:
    dataset = cg.StreamDataset(ID, count=500, batch_size=64)
    for one, other in zip(rows(dataset), rows(dataset, workers), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("ranks", "workers"), [(2, 0), (3, 2)])
def test_ranks_together_yield_each_program_once(ranks: int, workers: int) -> None:
    sets = [cg.StreamDataset(ID, count=500, batch_size=32, rank=k, world_size=ranks) for k in range(ranks)]
    batches = [batch for dataset in sets for batch in rows(dataset, workers)]
    batches.sort(key=lambda batch: int(batch["index"][0]))
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(500))
    assert np.array_equal(torch.cat([batch["tokens"] for batch in batches]), cg.Stream(ID).batch(0, 500)[0])


def grouped(patch: pytest.MonkeyPatch, rank: int, ranks: int) -> None:
    """Make this process part of a process group."""
    patch.setattr(torch.distributed, "is_initialized", lambda: True)
    patch.setattr(torch.distributed, "get_rank", lambda: rank)
    patch.setattr(torch.distributed, "get_world_size", lambda: ranks)


def firsts(batches: list[dict[str, torch.Tensor]]) -> list[int]:
    return [int(batch["index"][0]) for batch in batches]


def test_rank_defaults_to_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cg.StreamDataset(ID, count=60, batch_size=10)
    grouped(monkeypatch, 1, 3)
    for dataset in (before, cg.StreamDataset(ID, count=60, batch_size=10)):
        assert firsts(rows(dataset)) == [10, 40]
    explicit = cg.StreamDataset(ID, count=60, batch_size=10, rank=0, world_size=1)
    assert firsts(rows(explicit)) == [0, 10, 20, 30, 40, 50]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_take_the_rank_of_their_parent(monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    """A spawned worker is a new process, without the process group."""
    dataset = cg.StreamDataset(ID, count=60, batch_size=10)
    grouped(monkeypatch, 1, 2)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=start)
    assert firsts(list(loader)) == [10, 30, 50]


def test_a_pickle_uses_the_rank_of_the_iterating_process(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = cg.StreamDataset(ID, count=60, batch_size=10)
    with monkeypatch.context() as patch:
        grouped(patch, 1, 2)
        sent = pickle.dumps(dataset)
    with monkeypatch.context() as patch:
        grouped(patch, 0, 2)
        assert firsts(rows(pickle.loads(sent))) == [0, 20, 40]
    assert firsts(rows(pickle.loads(sent))) == [0, 10, 20, 30, 40, 50]


def test_several_processes_without_a_group_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    dataset = cg.StreamDataset(ID, count=60, batch_size=10)
    with pytest.raises(RuntimeError, match=r"WORLD_SIZE = 2, but torch\.distributed is not initialised"):
        next(iter(dataset))
    assert len(cg.StreamDataset(ID, count=60, batch_size=10, rank=0, world_size=1)) == 6
    grouped(monkeypatch, 0, 2)
    assert firsts(rows(dataset)) == [0, 20, 40]


@pytest.mark.parametrize("count", [0, 1, 10, 11, 39, 60, 61])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_len_is_the_number_of_batches(count: int, ranks: int) -> None:
    for rank in range(ranks):
        dataset = cg.StreamDataset(ID, count=count, batch_size=10, rank=rank, world_size=ranks)
        assert len(dataset) == len(DataLoader(dataset, batch_size=None)) == len(rows(dataset))


def test_a_dataset_without_a_count_is_endless_and_can_be_pickled() -> None:
    dataset = pickle.loads(pickle.dumps(cg.StreamDataset({ID: 1, "Cadmus-Compare-v0": 1}, batch_size=10)))
    batches = iter(dataset)
    assert firsts([next(batches) for _ in range(4)]) == [0, 10, 20, 30]
    with pytest.raises(TypeError, match="no end, and no len"):
        len(dataset)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"start": -1}, "start = -1"),
        ({"count": -1}, "count = -1"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"rank": 2, "world_size": 2}, "rank = 2"),
        ({"rank": 1}, "give both or none"),
        ({"split": "none"}, "no split 'none'"),
    ],
)
def test_mistakes_are_errors(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cg.StreamDataset(ID, **arguments)
