"""Completions of one prompt, for people: `cadmus_gym.evaluation.answers` and ``python -m cadmus_gym complete``."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import cadmus_gym as cg
from cadmus_gym.__main__ import main
from cadmus_gym.evaluation.answers import Answer, answer, as_text, outside_training
from cadmus_gym.evaluation.truth import prompts_of
from cadmus_gym.language import isa
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.tasks import Family
from cadmus_gym.transformer.model import ModelConfig, Transformer

PROMPTS = ["12 7 add", "61 78 mul 5 sub", "5 neg", "9 8 7 add ("]


def tiny(endian: str = "big", env: object = "Cadmus-Arith-v0", context: int = 256) -> Transformer:
    model = Transformer(ModelConfig(width=32, layers=2, heads=4, hidden=48, context=context), seed=1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)  # so that the model is confident of some tokens
    model.endian, model.card = endian, {"endian": endian, "settings": {"env": env, "overrides": {}}}
    return model


@pytest.fixture
def folder(tmp_path: Path) -> str:
    cg.save_model(tiny("little"), tmp_path / "tiny")
    return str(tmp_path / "tiny")


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize("form", ["value", "relation", "answer", "free"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_log_probs_match_those_of_sampling(endian: str, form: str, temperature: float) -> None:
    model = tiny(endian)
    for prompt in map(cg.assemble, PROMPTS):
        arguments = {"form": form, "max_tokens": 24, "temperature": temperature, "seed": 3}
        samples = 3 if temperature else 1
        answers = answer(model, prompt, thought_tokens=9, samples=samples, **arguments)
        done = cg.complete(model, [prompt] * samples, thought_tokens=9, **arguments)
        assert len(answers) == samples
        for one, tokens, length, log_probs in zip(answers, done.tokens, done.lengths, done.log_probs, strict=True):
            assert one.completion.tolist() == tokens[:length].tolist()
            assert one.written.tolist() == (tokens if endian == "big" else reverse_digits(tokens))[:length].tolist()
            assert one.log_probs.shape == (length, 65)
            assert np.allclose(one.log_probs[np.arange(length), one.written], log_probs[:length], atol=1e-4)
            assert np.allclose(np.exp(one.log_probs).sum(1), 1, atol=1e-5)
            assert one.log_prob == pytest.approx(log_probs.sum(), abs=1e-3)
            assert one.outcome == cg.run(np.concatenate([prompt, one.completion]))
            assert (one.log_probs[:, isa.PAD] == -math.inf).all() == (form != "free")


def test_form_and_budget_default_to_those_of_training() -> None:
    few = answer(tiny(env="Cadmus-Compare-v0"), cg.assemble("12 7 lt"))[0]
    assert cg.decode(few.completion).endswith(("end", "not end"))
    assert few.completion.size <= cg.load_spec("Cadmus-Compare-v0").episode.max_tokens
    mixed = tiny(env={"Cadmus-Compare-v0": 1, "Cadmus-Arith-v0": 2})
    both = answer(mixed, cg.assemble("12 7 lt"))[0]
    first = np.isfinite(both.log_probs[0])
    assert {cg.VOCABULARY[k] for k in np.flatnonzero(first)} == {"(", "not", "end", *"0123456789"}
    # the context is smaller than the budget
    short = answer(tiny(context=24), cg.assemble("12 7 add"))[0]
    assert short.completion.size <= 24 - 6
    bare = tiny()
    bare.card = {}
    with pytest.raises(ValueError, match="card does not say what it was trained on; give a form"):
        answer(bare, cg.assemble("12 7 add"))
    assert answer(bare, cg.assemble("12 7 add"), form="value")[0].completion.size > 0
    asked = answer(tiny(), cg.assemble("12 7 lt"), spec="Cadmus-Compare-v0")[0]
    assert cg.decode(asked.completion).endswith(("end", "not end"))
    assert asked.completion.size <= 16
    # an explicit budget is not cut to the context
    with pytest.raises(ValueError, match="max_tokens = 20; allowed: 1 to 19"):
        answer(tiny(context=24), cg.assemble("12 7 add"), max_tokens=20)


PROMPT_OF = {
    "12 7 add": "",
    "812 97 lt": "no split of Cadmus-Arith-v0 has such a prompt",
    "12 7 add 3 mul 4 sub": "Cadmus-Arith-v0 long: Three operations",
    "123 456 add": "Cadmus-Arith-v0 wide: Operands of three digits",
    "12 7 sub 3 mul": "Cadmus-Arith-v0 pairs: A difference multiplied",
    "1 2 3 add": "no split",
    # a completion has begun, with worked steps of the stream and with others
    "61 78 mul 5 sub ( 488": "",
    "61 78 mul 5 sub ( 489": "no split",
    "": "",
}


@pytest.mark.parametrize("prompt", PROMPT_OF)
def test_prompts_outside_the_training_distribution_are_recognized(prompt: str) -> None:
    found = outside_training(tiny().card, cg.assemble(prompt))
    assert found.startswith(PROMPT_OF[prompt])
    assert bool(found) == bool(PROMPT_OF[prompt])


@dataclass(frozen=True)
class Nothing:
    """No parameters."""


PLAIN = Family("plain", 1, Nothing, "value", lambda _: 8, compose=lambda _, choices: f"{choices.integer(0, 9)} 1 add")


def test_only_splits_with_other_parameters_are_outside(tmp_path: Path) -> None:
    for env in ("Cadmus-Arith-v0", "Cadmus-Compare-v0", "Cadmus-Mix-v0"):
        spec = cg.load_spec(env)
        for split in spec.splits:
            prompts, lengths = prompts_of(spec, split, 12)
            outside = [outside_training(tiny(env=env).card, p[:n]) for p, n in zip(prompts, lengths, strict=True)]
            assert all(bool(one) == (split not in ("train", "test")) for one in outside)
            assert all(f" {split}: " in one for one in outside if one)
    # overrides of training are inside
    wide = {"settings": {"env": "Cadmus-Arith-v0", "overrides": {"operands": [0, 999], "limit": 999_999}}}
    assert outside_training(wide, cg.assemble("123 456 add")) == ""
    # prompts of any part of a weighted mixture are inside
    two = tiny(env={"Cadmus-Compare-v0": 1, "Cadmus-Logic-v0": 3}).card
    for id in ("Cadmus-Compare-v0", "Cadmus-Logic-v0"):
        prompts, lengths = prompts_of(id, "test", 1)
        assert outside_training(two, prompts[0][: lengths[0]]) == ""
    assert (
        outside_training(two, cg.assemble("12 7 add"))
        == "no split of Cadmus-Compare-v0, Cadmus-Logic-v0 has such a prompt"
    )
    # a prompt whose problem no split keeps
    few = {"wide": {"share": [0.0, 1e-9], "parameters": {"operands": [100, 999], "limit": 999_999_999}}}
    narrow = {"settings": {"env": "Cadmus-Arith-v0", "overrides": {"splits": few}}}
    assert outside_training(narrow, cg.assemble("123 456 add")) == "no split of Cadmus-Arith-v0 has such a prompt"
    # unknown
    path, plain = tmp_path / "tests.toml", tmp_path / "plain.toml"
    path.write_text('id = "Tests-v0"\ntask = "arith"\n[splits.test]\n')
    plain.write_text(f'id = "Plain-v0"\ntask = "{__name__}:PLAIN"\n[splits.train]\n')
    for env in (None, "Gone-v0", "gone.toml", str(path), str(plain)):
        assert outside_training({"settings": {"env": env}}, cg.assemble("1 2 3 add")) == ""


def test_parts_are_thoughts_and_answer() -> None:
    for thoughts in (0, 9):
        one = answer(tiny(), cg.assemble("12 7 add"), thought_tokens=thoughts, max_tokens=20, temperature=2, seed=5)[0]
        thought, rest = one.parts
        assert f"{thought} {rest}".strip() == cg.disassemble(one.completion)
        assert (thought == "") == (")" not in cg.decode(one.completion).split())
        assert ")" not in rest
        assert thoughts or not thought


def test_prompts_are_read_in_the_notation_for_people() -> None:
    model = tiny()
    for text in ("12 7 add", "5 5 sub"):
        assert cg.disassemble(answer(model, text)[0].prompt) == text
    with pytest.warns(UserWarning, match="is read as `1 2 7 add`") as warned:
        answer(model, "1 2 , 7 add")
    assert warned[0].filename == __file__


def test_all_thoughts_are_separated_from_the_answer() -> None:
    prompt, completion = cg.assemble("12 7 add"), cg.assemble("( 1 ) ( 2 ) 19 eq end")
    one = Answer(prompt, completion, completion, np.zeros((completion.size, 65), np.float32), cg.run("end"))
    assert one.parts == ("( 1 ) ( 2 )", "19 eq end")


def test_the_most_frequent_answer_is_shown_token_by_token() -> None:
    answers = answer(tiny(), cg.assemble("5 neg"), form="relation", thought_tokens=0, temperature=1, samples=60, seed=1)
    by_text = {cg.disassemble(one.completion): one for one in answers}
    assert by_text.keys() == {"end", "not end"}
    rare, frequent = by_text["end"], by_text["not end"]
    for first, second, text in ((rare, frequent, "not end"), (frequent, rare, "end")):
        assert f"answer    {text}" in as_text([first, second, second]).splitlines()


def test_the_command_prints_the_answer_token_by_token(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["complete", "12 7 add", "--model", folder, "--top", "3"])
    out = capsys.readouterr().out
    (one,) = answer(cg.load_model(folder), cg.assemble("12 7 add"))
    assert status == (0 if one.outcome.true else 1)
    lines = out.splitlines()
    assert lines[0] == "12 7 add"
    assert one.outcome.verdict.name in out
    assert f"log-probability {one.log_prob:z.4f}" in out
    assert all(len(line) <= 100 for line in lines)
    table = out.split("alternatives\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table] == [cg.VOCABULARY[token] for token in one.written]
    for line, row, token in zip(table, np.exp(one.log_probs), one.written, strict=True):
        shown = line.split()[1:]
        assert shown[0] == f"{row[token]:.2%}"
        others = shown[1::2]
        assert len(others) == min(3, int((np.delete(row, token) >= 0.0005).sum()))
        assert all(f"{row[isa.ID[other]]:.2%}" in shown for other in others)
    assert "from the last digit to the first" in out
    assert "outside" not in out


def test_the_command_says_when_a_prompt_is_outside_the_training_distribution(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["complete", "123 456 add", "--model", folder])
    out = " ".join(capsys.readouterr().out.split())
    where = "(Cadmus-Arith-v0 wide: Operands of three digits); its probabilities mean little here."
    assert f"This prompt is outside the model's training distribution {where}" in out
    main(["complete", "812 97 lt", "--model", folder, "--spec", "Cadmus-Compare-v0", "--thoughts", "0"])
    out = capsys.readouterr().out
    assert out.rstrip().endswith("first.")
    assert "no split of Cadmus-Arith-v0 has such a prompt" in " ".join(out.split())
    written = out.split("alternatives\n")[1].split("\n\n")[0].splitlines()
    assert {line.split()[0] for line in written} <= {"not", "end"}


def test_a_broken_model_gives_a_one_line_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny()
    with torch.no_grad():
        model.norm.weight.fill_(3e38)  # finite, but the logits are not
    cg.save_model(model, tmp_path / "tiny")
    assert main(["complete", "12 7 add", "--model", str(tmp_path / "tiny")]) == 2
    assert capsys.readouterr().err.startswith("error: prompt 0: logits at token 0 of its completion are not finite")


def test_the_exit_status_says_whether_the_program_is_true(folder: str) -> None:
    for written, status in (
        ("19 eq", 0),
        ("18 eq", 1),
        ("19", 2),
    ):  # `19` could be lengthened
        assert main(["complete", f"12 7 add ( 9 ) {written}", "--model", folder, "--form", "value"]) == status


def test_samples_are_counted(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["complete", "12 7 lt", "--model", folder, "--form", "relation", "--thoughts", "0"]
    main([*arguments, "--samples", "20", "--temperature", "1", "--seed", "4"])
    out = capsys.readouterr().out
    rows = [line.split() for line in out.split("completion\n")[1].split("\n\n")[0].splitlines()]
    assert sum(int(row[0]) for row in rows) == 20
    assert {" ".join(row[3:]) for row in rows} == {"end", "not end"}
    main([*arguments, "--samples", "20", "--temperature", "1", "--seed", "4"])
    assert capsys.readouterr().out == out


def test_long_texts_are_wrapped() -> None:
    prompt = cg.assemble(" ".join(["123456 654321 add 99 mul 12 sub"] * 6))
    text = as_text(answer(tiny(), prompt, form="free", max_tokens=60, temperature=1, samples=4, seed=1), top=20)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["12 7 add", "--model", "nowhere"], "no model 'nowhere': no such folder; models in the package: "),
        (["12 if", "FOLDER"], "no completion of form 'value'"),
        (["12 7 add 19 eq end", "FOLDER"], "cannot finish from there"),
        (["12 7 ad", "FOLDER"], "word 2, 'ad', is not a token"),
        (["12 7 add", "FOLDER", "--samples", "3"], "samples = 3 at temperature 0.0"),
        (["12 7 add", "FOLDER", "--temperature", "-1"], "temperature = -1.0"),
        (["12 7 add", "FOLDER", "--max-tokens", "999"], "max_tokens = 999"),
        (["12 7 add", "FOLDER", "--thoughts", "-1"], "thought_tokens = -1"),
        (["12 7 add", "FOLDER", "--form", "words"], "'words' needs a list of words"),
    ],
)
def test_invalid_arguments_are_reported(
    arguments: list[str], message: str, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part for word in arguments for part in (["--model", folder] if word == "FOLDER" else [word])]
    assert main(["complete", *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_without_safetensors_the_error_names_the_extra(folder: str) -> None:
    code = "import sys; sys.modules['safetensors'] = None; from cadmus_gym.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "complete", "12 7 add", "--model", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install '.[train]'" in done.stderr
