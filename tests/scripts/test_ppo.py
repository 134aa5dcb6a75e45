"""agents/ppo.py, run as a user runs it: its output, its start and resuming."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from support.scripts import PPO, load_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cadmus_gym as cg
from cadmus_gym import files
from cadmus_gym.__main__ import main
from cadmus_gym.evaluation.trained import Trained
from cadmus_gym.evaluation.truth import evaluate
from cadmus_gym.language import forms
from cadmus_gym.training import interrupts, runs
from cadmus_gym.training.record import extended
from cadmus_gym.transformer.checkpoint import load_model, save_model
from cadmus_gym.transformer.model import ModelConfig, Transformer

# Products of digits, of which an untrained model finds some: most are 0.
OVERRIDES: dict[str, Any] = {
    "operands": [0, 9],
    "operators": {"mul": 1},
    "operations": {"1": 1},
    "thoughts": {"share": 0.0},
    "episode": {"max_tokens": 14, "thought_tokens": 0},
}
SPEC = cg.load_spec("Cadmus-Arith-v0", **OVERRIDES)
RECORD = extended(b"", 0, np.arange(8, dtype=np.uint8))  # of what the checkpoint was trained on
TINY = ["--overrides", json.dumps(OVERRIDES), "--n-envs", "16", "--n-steps", "16", "--batch-size", "128"]
TINY += ["--total-timesteps", "1024", "--learning-rate", "1e-3", "--threads", "1", "--device", "cpu"]
TINY += ["--eval-episodes", "64", "--eval-freq", "512", "--save-freq", "512"]


@pytest.fixture(scope="module")
def ppo() -> ModuleType:
    return load_script(PPO)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model whose digit order is not the default."""
    model = Transformer(ModelConfig(width=32, layers=2, heads=2, hidden=64, context=128), seed=4)
    folder = tmp_path_factory.mktemp("models") / "start"
    model.record = RECORD
    save_model(model, folder, {"endian": "big", "made": "here"})
    return folder


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run from the command line: its folder, and what it printed to stdout and stderr."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    command = [sys.executable, "-W", "error", str(PPO), "--folder", str(folder), "--checkpoint", str(checkpoint)]
    done = subprocess.run([*command, *TINY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


def test_it_prints_and_writes_the_result(finished: tuple[Path, str, str], checkpoint: Path) -> None:
    folder, printed, reported = finished
    rate, lift = r"(\d+\.\d\d)%", r"lift ([+-]\d+\.\d\d) points \[([+-]\d+\.\d\d), ([+-]\d+\.\d\d)\]"
    lift += rf", loopholes {rate} -> {rate}"
    line = re.fullmatch(
        rf"{folder}/model: Cadmus-Arith-v0, the same 64 test prompts before and after 1024 tokens: "
        rf"greedy {rate} -> {rate}, {lift}; sampled {rate} -> {rate}, {lift}; lowest greedy truth rate {rate}; \d+ s\n",
        printed,
    )
    assert line is not None, printed
    result = json.loads((folder / "result.json").read_text())
    assert result["line"] + "\n" == printed
    shown = [float(number) for number in line.groups()]
    for name, numbers in (("greedy", shown[:7]), ("sampled", shown[7:14])):
        found = result[name]
        truths, loopholes = (
            [found[when][rate] for when in ("before", "after")] for rate in ("truth_rate", "loophole_rate")
        )
        expected = [*truths, found["lift"], *found["lift_interval"], *loopholes]
        assert numbers == pytest.approx([100 * number for number in expected], abs=0.006)
        assert found["lift"] == pytest.approx(truths[1] - truths[0])
        assert found["lift_interval"][0] <= found["lift"] <= found["lift_interval"][1]
    assert [one["timesteps"] for one in result["history"]] == [0, 512, 1024]
    assert result["lowest"] == min(one["truth_rate"] for one in result["history"])
    assert result["digests"]["Cadmus-Arith-v0"] == SPEC.digests()
    assert result["recipe"]["settings"]["learning_rate"] == 1e-3
    assert result["recipe"]["commit"]

    # "before" is the truth of the checkpoint, "after" that of the model that was written.
    model = load_model(folder / "model")
    assert model.endian == "big"
    assert model.card["parent"]["made"] == "here"
    assert model.card["timesteps"] == 1024
    assert model.record == RECORD
    for when, one in (("before", load_model(checkpoint)), ("after", model)):
        assert result["greedy"][when]["truth_rate"] == evaluate(one, SPEC, "test", 64).truth_rate
        sampled = evaluate(one, SPEC, "test", 64, temperature=1.0)
        assert result["sampled"][when]["truth_rate"] == sampled.truth_rate
        assert result["sampled"][when]["interval"] == list(sampled.interval)
    agent = MaskablePPO.load(folder / "agent.zip")  # the run's own, so it may be unpickled
    for name, weight in model.state_dict().items():
        assert torch.equal(agent.policy.transformer.state_dict()[name], weight)

    assert "token 0: " in reported
    assert "token 512/1024, sampled" in reported or "token 1024/1024, sampled" in reported
    curves = EventAccumulator(str(folder))
    curves.Reload()
    for tag in ("truth/test", "loopholes/test"):  # as pretraining has them
        assert [event.step for event in curves.Scalars(tag)] == [0, 512, 1024]
        assert [event.step for event in curves.Scalars(f"{tag} sampled")] == [0, 1024]
    last, first = curves.Scalars("truth/test")[-1].value, curves.Scalars("truth/test sampled")[0].value
    assert last == pytest.approx(result["greedy"]["after"]["truth_rate"])
    assert first == pytest.approx(result["sampled"]["before"]["truth_rate"])
    texts = [event.tensor_proto.string_val[0].decode() for event in curves.Tensors("completions/text_summary")]
    assert len(texts) == 3
    assert "| environment | prompt | completion | verdict |" in texts[0]
    assert texts[0].count("| Cadmus-Arith-v0 | ") == 8
    assert [event.step for event in curves.Scalars("train/approx_kl")] == [256, 512, 768, 1024]
    assert [event.step for event in curves.Scalars("rollout/success_rate")] == [256, 512, 768, 1024]


def test_a_finished_run_is_not_repeated_but_can_be_lengthened(
    finished: tuple[Path, str, str], ppo: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, printed, _ = finished
    before = (folder / "model" / "model.safetensors").read_bytes()
    assert ppo.main(["--folder", str(folder), "--resume"]) == 0
    assert capsys.readouterr().out == f"{folder} is already finished:\n{printed}"
    assert (folder / "model" / "model.safetensors").read_bytes() == before
    assert ppo.main(["--folder", str(folder), "--resume", "--learning-rate", "1e-2"]) == 2
    assert "learning_rate = 0.01, but" in capsys.readouterr().err
    assert ppo.main(["--folder", str(folder), "--resume", "--total-timesteps", "1280", "--no-progress-bar"]) == 0
    captured = capsys.readouterr()
    assert "before and after 1280 tokens" in captured.out
    assert captured.err == ""
    result = json.loads((folder / "result.json").read_text())
    assert [one["timesteps"] for one in result["history"]] == [0, 512, 1024, 1280]


def test_the_card_reproduces_the_prompts_that_were_posed(
    checkpoint: Path,
    tmp_path: Path,
    ppo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: Counter[bytes] = Counter()
    step = cg.CadmusVectorEnv.step

    def counting(env: cg.CadmusVectorEnv, actions: Any) -> Any:
        played = env.episodes
        for row in np.flatnonzero(played.cells[:, forms.SPENT] == 0):
            asked[played.tokens[row, : played.lengths[row]].tobytes()] += 1
        return step(env, actions)

    monkeypatch.setattr(cg.CadmusVectorEnv, "step", counting)
    arguments = ["--checkpoint", str(checkpoint), *TINY, "--seed", "3"]
    assert ppo.main(["--folder", str(tmp_path), *arguments]) == 0
    posed = load_model(tmp_path / "model").card["posed"]
    assert posed["split"] == "train"
    replayed: Counter[bytes] = Counter()
    for row, count in enumerate(posed["prompts"]):
        prompts, lengths = cg.Stream(SPEC, "train").prompts(np.full(count, posed["seed"] + row), np.arange(count))
        replayed.update(prompt[:length].tobytes() for prompt, length in zip(prompts, lengths, strict=True))
    assert replayed == asked
    parent, own = Trained(tmp_path / "model").trainings
    assert load_model(tmp_path / "model").card["fingerprint"]
    assert (parent.kind, own.kind) == ("unknown", "prompts")  # the checkpoint's card does not say
    assert own.programs is not None
    _, counts = own.programs.ask([], [np.frombuffer(prompt, np.uint8) for prompt in asked])
    assert counts.tolist() == [*asked.values()]
    _, counts = own.programs.ask([], ["100 200 add"])
    assert counts.tolist() == [0]
    assert main(["seen", cg.disassemble(np.frombuffer(max(asked), np.uint8)), "--model", str(tmp_path / "model")]) == 0
    out = capsys.readouterr().out
    assert "no card says what it was trained on" in out
    assert f"reinforcement learning posed {sum(asked.values()):,} prompts of Cadmus-Arith-v0 (split train)" in out
    assert f"\n{asked[max(asked)]} of them are the prompt  " in out
    assert sum(asked.values()) > 100


class StopAfter(interrupts.Stop):
    """Simulates Ctrl-C during the update with this number."""

    def __init__(self, updates: int) -> None:
        super().__init__()
        self.updates, self.looks = updates, 0

    @property
    def signal(self) -> int:
        self.looks += 1
        return 2 if self.looks >= self.updates else 0  # an update looks once

    @signal.setter
    def signal(self, number: int) -> None:
        pass


def test_an_interrupted_run_resumes_bit_exactly(
    checkpoint: Path,
    tmp_path: Path,
    ppo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    common = ["--checkpoint", str(checkpoint), *TINY]
    assert ppo.main(["--folder", str(whole), *common]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(runs, "Stop", lambda *given: StopAfter(2))
        assert ppo.main(["--folder", str(parted), *common]) == 130
    reported = capsys.readouterr().err
    stopped = re.search(r"stopped and saved at token (\d+) of 1024; resume with: (.*)", reported)
    assert stopped is not None
    assert 0 < int(stopped[1]) < 1024
    assert f"--folder {parted} --resume" in stopped[2]
    assert not (parted / "result.json").exists()
    assert load_model(parted / "model").card["timesteps"] == int(stopped[1])
    assert load_model(parted / "model").record == RECORD
    assert ppo.main(["--folder", str(parted), "--resume"]) == 0
    late = tmp_path / "late"
    with monkeypatch.context() as patch:
        patch.setattr(runs, "Stop", lambda *given: StopAfter(4))  # the last one
        assert ppo.main(["--folder", str(late), *common]) == 130
    assert not (late / "result.json").exists()
    assert ppo.main(["--folder", str(late), "--resume"]) == 0
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, parted, late)]
    for key in ("greedy", "sampled", "history"):
        assert results[0][key] == results[1][key] == results[2][key]
    assert load_model(whole / "model").card["posed"] == load_model(parted / "model").card["posed"]
    assert load_model(whole / "model").record == load_model(parted / "model").record == RECORD
    start, *ends = (load_model(folder).state_dict() for folder in (checkpoint, whole / "model", parted / "model"))
    for one, other in zip(*(end.values() for end in ends), strict=True):
        assert torch.equal(one, other)
    assert any(not torch.equal(ends[0][name], weight) for name, weight in start.items())


def test_a_lift_from_loopholes_is_reported_as_such(
    checkpoint: Path,
    tmp_path: Path,
    ppo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    complete_under, drop = ppo.complete_under, cg.assemble("drop 1 end")

    def exploit(model: Transformer, spec: cg.Spec, prompts: Any, lengths: Any, **options: Any) -> Any:
        """Answers wrongly before any learning, and drops the question after."""
        done = complete_under(model, spec, prompts, lengths, **options)
        answer = drop if model.learned else cg.assemble("drop 0 end")
        programs = np.zeros((len(prompts), prompts.shape[1] + drop.size), np.uint8)
        for row, prompt, length in zip(programs, prompts, lengths, strict=True):
            row[: length + drop.size] = [*prompt[:length], *answer]
        return dataclasses.replace(done, programs=programs)

    with monkeypatch.context() as patch:
        patch.setattr(ppo, "complete_under", exploit)
        patch.setattr(Transformer, "learned", False, raising=False)
        learn = ppo.MaskablePPO.learn

        def learning(agent: Any, *arguments: Any, **options: Any) -> Any:
            patch.setattr(Transformer, "learned", True)
            return learn(agent, *arguments, **options)

        patch.setattr(ppo.MaskablePPO, "learn", learning)
        arguments = ["--env", "Cadmus-Open-v0", "--checkpoint", str(checkpoint), *TINY, "--total-timesteps", "256"]
        assert ppo.main(["--folder", str(tmp_path), *arguments]) == 0
    printed, reported = capsys.readouterr()
    assert "greedy 0.00% -> 100.00%, lift +100.00 points" in printed
    assert printed.count("loopholes 0.00% -> 100.00%") == 2
    assert "100.00% of 64 test prompts true, 100.00% loopholes, greedy" in reported
    assert files.read_json(tmp_path / "result.json")["greedy"]["after"]["loophole_rate"] == 1.0
    curves = EventAccumulator(str(tmp_path))
    curves.Reload()
    assert [event.value for event in curves.Scalars("loopholes/test")] == [0.0, 1.0]


def test_a_run_stopped_by_a_full_disk_resumes(
    checkpoint: Path,
    tmp_path: Path,
    ppo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, common = tmp_path / "run", ["--checkpoint", str(checkpoint), *TINY]
    assert ppo.main(["--folder", str(tmp_path / "whole"), *common]) == 0
    save_state, saved = runs.save_state, []

    def full(*arguments: Any) -> Path:
        if saved:
            raise OSError(28, "No space left on device")
        saved.append(save_state(*arguments))
        return saved[-1]

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_state", full)
        assert ppo.main(["--folder", str(folder), *common]) == 1
    reported = capsys.readouterr().err
    assert "ppo.py: stopped at token 1024: [Errno 28] No space left on device. All that was saved is intact" in reported
    assert f"--folder {folder} --resume" in reported
    assert ppo.main(["--folder", str(folder), "--resume"]) == 0
    whole, resumed = (load_model(one / "model").state_dict() for one in (tmp_path / "whole", folder))
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def test_a_run_without_a_checkpoint_starts_from_fresh_weights(tmp_path: Path, ppo: ModuleType) -> None:
    folder, seeds = tmp_path / "run", []
    for seed in ("0", "1"):
        arguments = ["--folder", str(folder), "--overwrite", "--seed", seed, *TINY, "--total-timesteps", "64"]
        assert ppo.main([*arguments, "--n-envs", "8", "--n-steps", "8", "--batch-size", "32"]) == 0
        model = load_model(folder / "model")
        assert model.endian == "little"
        assert model.config == ModelConfig()
        assert model.card["parent"] is None
        seeds.append(model.embed_tokens.weight)
    assert not torch.allclose(*seeds, atol=0.01)


def test_a_folder_is_never_overwritten_by_mistake(
    tmp_path: Path, ppo: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    run, foreign, file = tmp_path / "run", tmp_path / "foreign", tmp_path / "file"
    for folder in (run, foreign):
        folder.mkdir()
    (run / "run.json").write_text("{}")
    (foreign / "thesis.tex").touch()
    file.touch()
    for folder, flags, message in (
        (run, [], "already holds a run; --resume continues it, --overwrite deletes it"),
        (foreign, ["--overwrite"], "holds something other than a run; name another --folder"),
        (file, [], "is a file"),
        (run, ["--overwrite", "--checkpoint", str(tmp_path / "none")], "no such folder"),
    ):
        assert ppo.main(["--folder", str(folder), *TINY, *flags]) == 2
        assert message in capsys.readouterr().err
    assert (foreign / "thesis.tex").exists()
    assert (run / "run.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--env", "Cadmus-Arit-v0"], "did you mean Cadmus-Arith-v0"),
        (["--overrides", '{"operand": [0, 9]}'], "did you mean 'operands'"),
        (["--batch-size", "100"], "batch_size = 100; allowed: a divisor of n_envs * n_steps = 256"),
        (["--n-epochs", "0"], "n_epochs = 0; allowed: a whole number from 1"),
        (["--learning-rate", "0"], "learning_rate = 0.0; allowed: a number above 0"),
        (["--gae-lambda", "1.5"], "gae_lambda = 1.5; allowed: a number from 0 to 1"),
        (["--seed", "-1"], "seed = -1; allowed: a whole number from 0"),
        (["--target-kl", "0"], "target_kl = 0.0; allowed: a number above 0, or None"),
        (["--resume", "--overwrite"], "give one of them"),
        (["--overrides", '{"splits": {"test": {"share": [0.0, 1e-9]}}}'], "its parameters allow too few"),
        (["--overrides", '{"episode": {"max_tokens": 600}}'], "take 620 positions, the model has 512"),
    ],
)
def test_a_mistake_is_named(
    flags: list[str], message: str, tmp_path: Path, ppo: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):  # tyro exits for a flag with an invalid value
        sys.exit(ppo.main(["--folder", str(tmp_path / "run"), *TINY, *flags]))
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
