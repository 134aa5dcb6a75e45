"""Environments from a user's TOML files, families and mixtures."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from support.specs import ARITH, IDS, TRAIN

import cadmus_gym as cg
from cadmus_gym.streams.loading import FOLDER

ROOT = Path(cg.__file__).parents[1]


MINE = """
id = "Mine-v3"
task = "arith"
[parameters]
operands = [0, 9]
[episode]
max_tokens = 16
thought_tokens = 4
[splits.train]
share = [0.2, 1.0]
[splits.test]
share = [0.0, 0.2]
"""


@pytest.fixture
def mine(write: Any, registry: None) -> cg.Spec:
    return cg.register(write(MINE))


def test_registered_file_is_known_everywhere(mine: cg.Spec) -> None:
    assert mine == cg.load_spec("Mine-v3")
    expected, lengths = cg.Stream("Mine-v3", "test", seed=7).batch(0, 1)
    prompt = expected[0, : lengths[0]]
    observation, _ = gymnasium.make("Mine-v3", split="test").reset(seed=7)
    np.testing.assert_array_equal(observation[: prompt.size], prompt)
    observations, _ = gymnasium.make_vec("Mine-v3", num_envs=2, split="test").reset(seed=7)
    np.testing.assert_array_equal(observations[0], observation)


def test_registering_again_replaces_the_environment(write: Any, mine: cg.Spec) -> None:
    cg.register(write(MINE.replace("[0, 9]", "[90, 99]"), "other.toml"))
    assert cg.load_spec("Mine-v3").split_parameters("train").operands == (90, 99)
    observation, _ = gymnasium.make("Mine-v3").reset(seed=1)
    assert cg.decode(observation[:1]) == "9"


def test_another_process_finds_a_registered_file(mine: cg.Spec) -> None:
    environment = gymnasium.make("Mine-v3", limit=50)
    observation, _ = environment.reset(seed=3)
    assert environment.spec is not None
    code = (
        "import sys, gymnasium\n"
        "from gymnasium.envs.registration import EnvSpec\n"
        "environment = gymnasium.make(EnvSpec.from_json(sys.stdin.read()))\n"
        "print(environment.reset(seed=3)[0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        input=environment.spec.to_json(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == observation.tolist()


def test_spawned_workers_find_a_registered_file(mine: cg.Spec) -> None:
    options = {"num_envs": 1, "vectorization_mode": "async", "vector_kwargs": {"context": "spawn"}}
    workers = gymnasium.make_vec("Mine-v3", **options)
    try:
        observations, _ = workers.reset(seed=5)
        np.testing.assert_array_equal(observations[0], gymnasium.make("Mine-v3").reset(seed=5)[0])
    finally:
        workers.close()


def in_another_process(code: str, environment: gymnasium.Env[Any, Any], folder: Path) -> Any:
    """Run code in an empty folder, with the EnvSpec of an environment; return the JSON that it prints."""
    assert environment.spec is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input=environment.spec.to_json(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PLAYS = """
import sys, gymnasium
from gymnasium.envs.registration import EnvSpec
environment = gymnasium.make(EnvSpec.from_json(sys.stdin.read()))
print([environment.reset(seed=seed)[0].tolist() for seed in range(8)])
"""


LOCAL = """
from dataclasses import dataclass
from cadmus_gym.tasks import Family

@dataclass(frozen=True)
class Parameters:
    most: int = 99

def compose(parameters, choices):
    return f"{choices.integer(0, parameters.most)} 7 add"

LOCAL = Family("local", version=1, parameters=Parameters, form="value", room=lambda parameters: 8, compose=compose)
"""


@pytest.fixture
def local(tmp_path: Path) -> Iterator[str]:
    """The name of a module of plain Python next to the files of a test, which is not yet imported."""
    name = f"local_{tmp_path.parent.name}_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(LOCAL)
    yield name
    sys.modules.pop(name, None)


def test_table_of_a_mixture_loads_in_another_process(
    write: Any, registry: None, local: str, mine: cg.Spec, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}', "local.toml")
    write('base = "Mine-v3"\nid = "Based-v0"\n[parameters]\noperands = [2, 5]', "based.toml")
    cg.register(write('base = "based.toml"\nid = "Twice-v0"', "twice.toml"))
    parts = '"Mine-v3" = 1\n"local.toml" = 1\n"Twice-v0" = 1\n"Cadmus-Loop-v0" = 1'
    cg.register(
        write(f'id = "Mixed-v0"\nform = "answer"\n[mixture]\n{parts}\n[episode]\nmax_tokens = 99', "mixed.toml")
    )
    environment = gymnasium.make("Mixed-v0", thoughts={"share": 0.5})
    here = [environment.reset(seed=seed)[0].tolist() for seed in range(8)]
    assert in_another_process(PLAYS, environment, tmp_path_factory.mktemp("elsewhere")) == here


def test_spawned_workers_load_a_user_mixture(write: Any, registry: None, mine: cg.Spec) -> None:
    cg.register(write('id = "Mixed-v0"\nform = "value"\n[mixture]\nMine-v3 = 1\nCadmus-Arith-v0 = 1', "mixed.toml"))
    options = {"num_envs": 1, "vectorization_mode": "async", "vector_kwargs": {"context": "spawn"}}
    workers = gymnasium.make_vec("Mixed-v0", **options)
    try:
        observations, _ = workers.reset(seed=5)
        np.testing.assert_array_equal(observations[0], gymnasium.make("Mixed-v0").reset(seed=5)[0])
    finally:
        workers.close()


def test_names_of_files_are_relative_to_the_spec_file(
    write: Any, local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(MINE, "part.toml")
    write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}', "local.toml")
    mixed = write('id = "Mixed-v0"\nform = "value"\n[mixture]\n"part.toml" = 1\n"local.toml" = 1', "mixed.toml")
    (tmp_path / "inner").mkdir()
    derived = write('base = "../local.toml"\nid = "Derived-v0"\n[parameters]\nmost = 9', "inner/derived.toml")
    monkeypatch.chdir("/")
    assert [part.id for part, _ in cg.load_spec(mixed).parts] == ["Mine-v3", "Local-v0"]
    table = cg.load_spec(derived).table()
    sys.modules.pop(local)  # as in another process
    assert cg.load_spec(table).split_parameters("train").most == 9
    assert str(tmp_path) not in sys.path


def test_family_may_be_in_a_package_beside_the_file(write: Any, local: str, tmp_path: Path) -> None:
    (tmp_path / local).mkdir()
    (tmp_path / f"{local}.py").rename(tmp_path / local / "inner.py")
    (tmp_path / local / "__init__.py").write_text(LOCAL)
    for module in (f"{local}.inner", local):
        spec = cg.load_spec(write(f'id = "Local-v0"\ntask = "{module}:LOCAL"\n{TRAIN}'))
        assert spec.family.compose.__module__ == module  # type: ignore[union-attr]
    sys.modules.pop(f"{local}.inner")
    assert str(tmp_path) not in sys.path


def test_module_hidden_by_another_one_is_an_error(write: Any) -> None:
    write(LOCAL, "json.py")
    with pytest.raises(ValueError, match=r"my\.toml: task = 'json:LOCAL'.*hidden by another module named json.*rename"):
        cg.load_spec(write(f'id = "Local-v0"\ntask = "json:LOCAL"\n{TRAIN}'))


def test_failing_module_is_named_with_its_error(write: Any, local: str, tmp_path: Path) -> None:
    (tmp_path / f"{local}.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=r"my\.toml: task = .*ZeroDivisionError: division by zero"):
        cg.load_spec(write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}'))


@pytest.mark.parametrize("id", IDS)
def test_table_and_pickle_preserve_a_spec(id: str) -> None:
    spec = cg.load_spec(id)
    table = json.loads(json.dumps(spec.table()))
    for again in (cg.load_spec(table), pickle.loads(pickle.dumps(spec))):
        assert again == spec
        assert (again.digest, again.digests()) == (spec.digest, spec.digests())
    assert cg.load_spec(table, thoughts={"share": 0.25}) == spec.override(thoughts={"share": 0.25})


def test_digest_does_not_depend_on_the_file(write: Any, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    one, other = (cg.load_spec(write(f"{ARITH}{TRAIN}", name)) for name in ("one.toml", "inner/other.toml"))
    assert one.files != other.files
    assert one.digest == other.digest


def test_load_spec_reads_tables_and_names_mistakes() -> None:
    table = {"id": "Table-v0", "task": "arith", "splits": {"train": {}}}
    assert cg.load_spec(table).split_parameters("train").operands == (0, 99)
    for wrong, parts in (
        ({**table, "task": 5}, ["Table-v0: task", "a string"]),
        ({**table, "files": 5}, ["Table-v0: files", "Spec.table()"]),
        ({**table, "sources": "x"}, ["Table-v0: sources", "Spec.table()"]),
        ({"task": "arith"}, ["a table of values", "'id'", "missing"]),
        ({}, ["a table of values", "'id'"]),
    ):
        with pytest.raises(ValueError, match=r"Table-v0|a table") as raised:
            cg.load_spec(wrong)
        assert [part for part in parts if part not in str(raised.value)] == [], raised.value


def test_packaged_environment_cannot_be_replaced(write: Any, registry: None) -> None:
    digest = cg.load_spec("Cadmus-Arith-v0").digest
    for text in (
        f'id = "Cadmus-Arith-v0"\ntask = "arith"\n{TRAIN}',
        'base = "Cadmus-Arith-v0"\nid = "Cadmus-Arith-v0"',
    ):
        with pytest.raises(ValueError, match=r"^my\.toml: id = 'Cadmus-Arith-v0'.*choose another"):
            cg.register(write(text))
    assert cg.load_spec("Cadmus-Arith-v0").digest == digest
    cg.load_spec("Cadmus-Mix-v0")


@pytest.mark.parametrize(
    "text", ['base = "Mine-v3"\nid = "Mine-v3"', 'id = "Mine-v3"\nform = "value"\nmixture = { Mine-v3 = 1 }']
)
def test_circular_id_is_not_registered(write: Any, mine: cg.Spec, text: str) -> None:
    with pytest.raises(ValueError, match=r"itself\.toml.*leads back to itself: itself\.toml -> itself\.toml"):
        cg.register(write(text, "itself.toml"))
    assert cg.load_spec("Mine-v3") == mine
    gymnasium.make("Mine-v3").reset(seed=0)


def test_circular_mixtures_are_an_error(write: Any, registry: None, mine: cg.Spec) -> None:
    write('id = "One-v0"\nform = "value"\nmixture = { "two.toml" = 1 }', "one.toml")
    two = write('id = "Two-v0"\nform = "value"\nmixture = { "one.toml" = 1 }', "two.toml")
    with pytest.raises(ValueError, match=r"^two\.toml: .*two\.toml -> one\.toml -> two\.toml"):
        cg.load_spec(two)


def test_long_chain_of_bases_is_an_error(write: Any) -> None:
    write(MINE, "0.toml")
    for k in range(1, 40):
        last = write(f'base = "{k - 1}.toml"\nid = "K-v{k}"', f"{k}.toml")
    for file in (last, last.with_name("16.toml")):
        with pytest.raises(ValueError, match=rf"^{file.name}: .*more than 16 files"):
            cg.load_spec(file)
    assert cg.load_spec(last.with_name("15.toml")).id == "K-v15"  # the 16th file


def test_error_names_a_path_that_is_not_a_file(write: Any, tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "loop.toml").symlink_to(tmp_path / "loop.toml")
    for name in ("folder.toml", "loop.toml"):
        for ask in (cg.load_spec, cg.register):
            with pytest.raises(ValueError, match=rf"^{name}: cannot be read: .*give a TOML file"):
                ask(tmp_path / name)


def test_byte_order_mark_is_ignored(write: Any) -> None:
    assert cg.load_spec(write(b"\xef\xbb\xbf" + MINE.encode())).id == "Mine-v3"


def test_id_that_looks_like_a_path_is_rejected(write: Any) -> None:
    with pytest.raises(ValueError, match=r"^my\.toml: id = 'foo\.toml': looks like the path of a file"):
        cg.load_spec(write(f'id = "foo.toml"\ntask = "arith"\n{TRAIN}'))


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"parameters": 0, "depths": {"1": 1}}, ["[parameters]", "a table", "0"]),
        ({"splits": (0, 9), "live": 0}, ["[splits]", "a table", "(0, 9)"]),
        ({"splits": {"train": None}, "live": 0}, ["[splits.train]", "a table", "None"]),
        ({"thoughts": None}, ["[thoughts]", "a table", "None"]),
        ({"thoughts": {None: 1}}, ["[thoughts]", "None", "share"]),
        ({"episode": {1: 1}}, ["[episode]", "1", "max_tokens"]),
        ({"episode": 64}, ["[episode]", "a table", "64"]),
        ({"depths": {(1, 2): 1}}, ["depths", "a table"]),
        ({"files": ("a.toml",)}, ["unexpected keyword", "'files'", "known"]),
    ],
)
def test_invalid_keyword_values_raise_value_error(overrides: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^Cadmus-Branch-v0") as raised:
        cg.load_spec("Cadmus-Branch-v0", **overrides)
    assert [part for part in parts if part not in str(raised.value)] == [], raised.value


def test_each_overrides_one_part_of_a_mixture() -> None:
    each = {"Cadmus-Arith-v0": {"negative": 1.0, "thoughts": {"share": 0.0}}}
    spec = cg.load_spec("Cadmus-Mix-v0", common={"thoughts": {"share": 0.5}}, each=each)
    (arith, _), *others = spec.parts
    assert arith.parameters["negative"] == 1.0
    assert arith.thoughts.share == 0.0
    assert {part.thoughts.share for part, _ in others} == {0.5}
    changed = {
        name for name, digest in spec.digests().items() if digest != cg.load_spec("Cadmus-Mix-v0").digests()[name]
    }
    assert changed == set(spec.splits)
    assert cg.load_spec(json.loads(json.dumps(spec.table()))).digests() == spec.digests()
    with pytest.raises(ValueError, match=r"\[each\]: no part Cadmus-Loop-v1; parts are .*Cadmus-Loop-v0"):
        cg.load_spec("Cadmus-Mix-v0", each={"Cadmus-Loop-v1": {}})
    with pytest.raises(ValueError, match=r"Cadmus-Arith-v0 .*negative"):
        cg.load_spec("Cadmus-Mix-v0", each={"Cadmus-Arith-v0": {"negative": 2.0}})


def test_common_overrides_the_episode_of_a_mixture() -> None:
    spec = cg.load_spec("Cadmus-Mix-v0", common={"episode": {"max_tokens": 200}}, episode={"max_tokens": 300})
    assert {part.episode.max_tokens for part, _ in spec.parts} == {200}
    assert spec.episode.max_tokens == 300


def test_overrides_of_the_thoughts_of_a_mixture_accumulate() -> None:
    spec = cg.load_spec("Cadmus-Mix-v0", thoughts={"share": 0.5}).override(thoughts={"style": "trace"})
    assert {(part.thoughts.share, part.thoughts.style) for part, _ in spec.parts} == {(0.5, "trace")}


def test_thoughts_of_a_mixture_must_be_a_table() -> None:
    with pytest.raises(ValueError, match=r"\[thoughts\].*a table, not None"):
        cg.load_spec("Cadmus-Mix-v0", thoughts=None)


def test_numeric_keys_may_be_numbers() -> None:
    assert cg.load_spec("Cadmus-Arith-v0", operations={1: 3}) == cg.load_spec("Cadmus-Arith-v0", operations={"1": 3})


def test_stream_of_a_split_without_problems_is_an_error(write: Any) -> None:
    path = write(f"{ARITH}[parameters]\noperands = [5, 5]\noperations = {{ 1 = 1 }}\n[splits.few]\nshare = [0, 1e-3]")
    with pytest.raises(ValueError, match=r"^My-Arith-v0 \(my\.toml\) \[splits\.few\]: none of 100000 attempts.*wider"):
        cg.Stream(path, "few")
    with pytest.raises(ValueError, match=r"my\.toml"):
        cg.CadmusEnv(path, split="few")


def test_family_that_exceeds_its_room_is_named(write: Any, local: str, tmp_path: Path) -> None:
    (tmp_path / f"{local}.py").write_text(LOCAL.replace("8,", "3,"))
    path = write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n[parameters]\nmost = 9\n{TRAIN}')
    with pytest.raises(ValueError, match=r"^Local-v0 \(my\.toml\) \[splits\.train\].*' has 4 tokens.*room.*at most 3"):
        cg.Stream(path)


COMPILED = """
from dataclasses import dataclass
import numpy as np
from cadmus_gym.tasks import Family, writer

@dataclass(frozen=True)
class Parameters:
    pass

def write(parameters, rng, script, program, marks, work, machine):
    for position in range(4):
        program[position] = 13 + position
    program[4] = 25
    marks[0] = 5
    return np.uint64(0)

LOCAL = Family("local", 1, Parameters, "value", lambda parameters: 4, writer(write), lambda _: np.zeros(1, np.int64))
"""


def test_compiled_family_that_exceeds_its_room_is_named(write: Any, local: str, tmp_path: Path) -> None:
    (tmp_path / f"{local}.py").write_text(COMPILED)
    with pytest.raises(ValueError, match=r"^Local-v0 \(my\.toml\) .* longer than room\(\) allows"):
        cg.Stream(write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}'))


@pytest.mark.parametrize("returned", ["5", "None", "'1 nonsense'", "'1 2'", "'case to 1 do'", "''"])
def test_family_that_returns_no_prompt_is_named(write: Any, local: str, tmp_path: Path, returned: str) -> None:
    (tmp_path / f"{local}.py").write_text(LOCAL.replace('f"{choices.integer(0, parameters.most)} 7 add"', returned))
    with pytest.raises(ValueError, match=r"^Local-v0 \(my\.toml\) \[splits\.train\]: task 'local_.*:LOCAL': "):
        cg.Stream(write(f'id = "Local-v0"\ntask = "{local}:LOCAL"\n{TRAIN}'))


@pytest.mark.parametrize("base", ["Cadmus-Arith-v0", "other.toml"])
def test_file_inherits_from_its_base(write: Any, base: str) -> None:
    write((FOLDER / "arith.toml").read_bytes(), "other.toml")
    mine = 'id = "Mine-v0"\n[thoughts]\nshare = 0.0\n[splits.more]\nparameters = { limit = 500 }'
    spec = cg.load_spec(write(f'base = "{base}"\n{mine}'))
    parent = cg.load_spec("Cadmus-Arith-v0")
    assert spec.id == "Mine-v0"
    assert spec.thoughts == dataclasses.replace(parent.thoughts, share=0.0)
    assert list(spec.splits) == [*parent.splits, "more"]
    assert (spec.parameters, spec.episode, spec.form) == (parent.parameters, parent.episode, parent.form)


def test_splits_of_the_base_that_do_not_fit_are_dropped(write: Any) -> None:
    write(f"{ARITH}{TRAIN}[splits.wide]\nparameters = {{ operands = [100, 999] }}", "other.toml")
    spec = cg.load_spec(write('base = "other.toml"\nid = "Mine-v0"\n[parameters]\nlimit = 500'))
    assert list(spec.splits) == ["train"]


def test_wrong_dataclass_is_rejected() -> None:
    values = {
        "id": "X-v0",
        "task": "arith",
        "splits": {"train": {}},
        "thoughts": cg.load_spec("Cadmus-Arith-v0").episode,
    }
    with pytest.raises(ValueError, match=r"^X-v0 \[thoughts\]: expected a table"):
        cg.load_spec(values)


@pytest.mark.parametrize(
    ("thoughts", "room"),
    [
        ({"share": 1.0, "style": "trace", "limit": 30}, 38),
        ({"share": 0.0, "style": "trace", "limit": 30}, 8),
        ({"share": 1.0, "style": "none", "limit": 30}, 8),
        ({}, 8),
    ],
    ids=["thoughts", "share 0", "no style", "none"],
)
def test_rooms_by_hand(thoughts: dict[str, Any], room: int) -> None:
    """`, 9 9 9 9 neg eq end` are 8 tokens, and three operands `, 9 9 neg` with two operators 14."""
    values = {"id": "My-v0", "task": "arith", "thoughts": thoughts, "splits": {"train": {}}}
    spec = cg.load_spec(values)
    assert (spec.prompt_room, spec.completion_room) == (14, room)
    large = {"parameters": {"operands": [0, 999], "limit": 999999}}
    for splits in ({"large": large, "train": {}}, {"train": {}, "large": large}):
        spec = cg.load_spec(values | {"splits": splits})
        assert (spec.prompt_room, spec.completion_room) == (17, room + 2)
    relation = {"id": "Mine-v0", "task": "compare", "splits": {"train": {}}}  # 5 digits, and `not end`
    assert (cg.load_spec(relation).prompt_room, cg.load_spec(relation).completion_room) == (15, 2)
    parts = {"one": relation, "two": cg.load_spec(values).table()}
    mixed = {"id": "Mix-v0", "form": "answer", "mixture": {"one": 1, "two": 1}, "sources": parts}
    assert (cg.load_spec(mixed).prompt_room, cg.load_spec(mixed).completion_room) == (15, room)


@pytest.mark.parametrize("id", IDS)
def test_packaged_specs_have_descriptions(id: str) -> None:
    spec = cg.load_spec(id)
    assert spec.id == id
    assert spec.description
    assert all(split.description for split in spec.splits.values())
    assert {"train", "test"} <= spec.splits.keys()


@pytest.mark.parametrize("id", IDS)
def test_spec_is_immutable(id: str) -> None:
    spec = cg.load_spec(id)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.reward = "cases"  # type: ignore[misc]
    assert cg.load_spec(id) == spec
    assert cg.load_spec(id).digest == spec.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("base = '{}'", "K.toml: base = "),
        ("form = 'answer'\nmixture = {{ '{}' = 1 }}", "K.toml: mixture "),
    ],
)
def test_too_long_file_name_is_reported_as_missing(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "K.toml"
    path.write_text("id = 'K-v0'\n" + text.format("a" * 300 + ".toml"))
    with pytest.raises(ValueError, match=re.escape(said)):
        cg.load_spec(path)


def test_circular_table_is_rejected() -> None:
    parameters: dict[str, Any] = {}
    parameters["operations"] = parameters
    with pytest.raises(ValueError, match="Cadmus-Arith-v0: nested too deeply, or contains itself"):
        cg.load_spec("Cadmus-Arith-v0", parameters=parameters)
    mixture = cg.load_spec("Cadmus-Mix-v0").table()
    mixture["sources"] = {**mixture["sources"], "Cadmus-Arith-v0": mixture}
    with pytest.raises(ValueError, match="a table that contains itself"):
        cg.load_spec(mixture)


def test_form_must_be_a_string() -> None:
    with pytest.raises(ValueError, match=r"Cadmus-Arith-v0: form = array\(\[1, 2\]\): expected a string"):
        cg.load_spec("Cadmus-Arith-v0", form=np.array([1, 2]))


def test_error_describes_the_expected_list() -> None:
    with pytest.raises(ValueError, match=r"operands = 5: expected a list of two whole numbers, e\.g\. \[0, 99\]"):
        cg.load_spec("Cadmus-Arith-v0", operands=5)
    with pytest.raises(ValueError, match="held_out = 5: expected a list of strings"):
        cg.load_spec("Cadmus-Arith-v0", held_out=5)
