"""A stream as a torch dataset: whoever takes part, together they give the stream."""

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


def test_a_dataset_is_the_stream() -> None:
    batches = rows(cg.StreamDataset(ID, "test", 3, start=50, count=210, batch_size=64))
    programs, lengths = cg.Stream(ID, "test", 3).batch(50, 210)
    assert [len(batch["tokens"]) for batch in batches] == [64, 64, 64, 18]
    assert {key: value.dtype for key, value in batches[0].items()} == dict.fromkeys(batches[0], torch.int64)
    assert np.array_equal(torch.cat([batch["tokens"] for batch in batches]), programs)
    assert np.array_equal(torch.cat([batch["prompt_length"] for batch in batches]), lengths)
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(50, 260))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_give_the_same_batches_in_the_same_order(workers: int) -> None:
    dataset = cg.StreamDataset(ID, count=500, batch_size=64)
    for one, other in zip(rows(dataset), rows(dataset, workers), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("ranks", "workers"), [(2, 0), (3, 2)])
def test_ranks_give_each_program_once(ranks: int, workers: int) -> None:
    sets = [cg.StreamDataset(ID, count=500, batch_size=32, rank=k, world_size=ranks) for k in range(ranks)]
    batches = [batch for dataset in sets for batch in rows(dataset, workers)]
    batches.sort(key=lambda batch: int(batch["index"][0]))
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(500))
    assert np.array_equal(torch.cat([batch["tokens"] for batch in batches]), cg.Stream(ID).batch(0, 500)[0])


def test_ranks_are_those_of_torch_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    first = rows(cg.StreamDataset(ID, count=60, batch_size=10))
    assert [int(batch["index"][0]) for batch in first] == [10, 40]
    explicit = rows(cg.StreamDataset(ID, count=60, batch_size=10, rank=0, world_size=1))
    assert len(explicit) == 6


def test_without_a_count_it_has_no_end_and_is_pickled() -> None:
    dataset = pickle.loads(pickle.dumps(cg.StreamDataset({ID: 1, "Cadmus-Compare-v0": 1}, batch_size=10)))
    batches = iter(dataset)
    assert [int(next(batches)["index"][0]) for _ in range(4)] == [0, 10, 20, 30]


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
def test_mistakes_are_told(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        cg.StreamDataset(ID, **arguments)
