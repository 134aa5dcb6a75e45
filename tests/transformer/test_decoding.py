"""The compiled decoder for a few rows completes as the batched code does, or is not used at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cadmus_gym as cg
from cadmus_gym.evaluation.completing import complete
from cadmus_gym.evaluation.truth import prompts_of
from cadmus_gym.language import isa
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.transformer import decoding
from cadmus_gym.transformer.batched import batch_logits
from cadmus_gym.transformer.decoding import BLOCK, Decoder, decoder_of, load_decoder
from cadmus_gym.transformer.generate import Completions, logits_of
from cadmus_gym.transformer.model import ModelConfig, Transformer
from cadmus_gym.transformer.model_files import packaged_models

SMALL = ModelConfig(width=24, layers=2, heads=2, hidden=40, context=96)
CONFIGS = {
    "tied": SMALL,
    "untied": replace(SMALL, tied=False),
    "grouped": replace(SMALL, width=48, heads=6, key_value_heads=2, rope_theta=500.0, norm_eps=1e-3),
    "one group, untied, one layer": replace(SMALL, layers=1, key_value_heads=1, hidden=7, tied=False),
}
FORMS: dict[str, dict[str, Any]] = {
    "value": {},
    "relation": {},
    "argument": {},
    "answer": {},
    "words": {"words": ("add", "mul", "dup", "1", "2", "if", "fi", "times", "next")},
    "free": {},
}
PROMPTS = [
    cg.assemble(text)
    for text in (
        "12 7 add",
        "5 neg",
        "99 3 mul 4 sub",
        "123456 654321 add 123456 654321 mul 17 sub",
        "7 8 9 add ( 12 ,",
    )
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(config: ModelConfig = SMALL, endian: str = "big") -> Transformer:
    model = Transformer(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():  # different norms, and some tokens much more likely than others
            if weight.ndim == 1:
                weight.uniform_(0.5, 1.5, generator=generator)
            elif name.startswith(("embed_tokens", "lm_head")):
                weight.mul_(30)
    model.endian = endian
    return model


def both(
    monkeypatch: pytest.MonkeyPatch, model: Transformer, prompts: Any, **options: Any
) -> tuple[Completions, Completions]:
    """Complete with the decoder and with the batched code."""
    monkeypatch.setattr(decoding, "ROWS", 1000)
    monkeypatch.setattr(decoding, "WORK", 10**12)
    assert isinstance(decoder_of(model, len(prompts)), Decoder)
    one = complete(model, prompts, **options)
    monkeypatch.setattr(decoding, "ROWS", 0)
    assert decoder_of(model, len(prompts)) is None
    return one, complete(model, prompts, **options)


def check_same(one: Completions, other: Completions, atol: float = 1e-4) -> None:
    assert np.array_equal(one.tokens, other.tokens)
    assert np.array_equal(one.lengths, other.lengths)
    assert np.array_equal(one.programs, other.programs)
    np.testing.assert_allclose(one.log_probs, other.log_probs, atol=atol)
    assert one.log_probs.dtype == other.log_probs.dtype
    assert (one.raw_log_probs is None) == (other.raw_log_probs is None)
    if one.raw_log_probs is not None and other.raw_log_probs is not None:
        np.testing.assert_allclose(one.raw_log_probs, other.raw_log_probs, atol=atol)


@pytest.mark.parametrize("name", packaged_models())
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_models_in_the_package(name: str, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cg.load_model(name)
    for id in ("Cadmus-Arith-v0", "Cadmus-Compare-v0", "Cadmus-Function-v0"):
        spec = cg.load_spec(id)
        prompts, lengths = prompts_of(spec, "test", 12, 3)
        for form, raw, endian in ((spec.form, False, None), ("answer", True, None), ("free", True, "big")):
            options = {"form": form, "raw": raw, "endian": endian, "temperature": temperature, "seed": 4}
            check_same(*both(monkeypatch, model, prompts, prompt_lengths=lengths, max_tokens=40, **options))
        shown = reverse_digits(prompts)
        decoder = load_decoder(name)
        np.testing.assert_allclose(decoder.logits(shown), batch_logits(model, shown), atol=1e-3)
    assert (decoder.config, decoder.endian, decoder.card) == (model.config, model.endian, model.card)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("endian", ["big", "little"])
def test_every_form_and_shape(config: ModelConfig, endian: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(map(len, PROMPTS)) > BLOCK  # read in parts
    model = tiny(config, endian)
    lengths = set()
    for form, options in FORMS.items():
        for temperature in (0.0, 0.7, 1e-30, 1e30):
            options = {**options, "form": form, "temperature": temperature, "max_tokens": 24, "thought_tokens": 9}
            prompts = [*PROMPTS[:2], *PROMPTS[1:]]  # one of them twice, which is read once
            for raw in (False, True):
                one, other = both(monkeypatch, model, prompts, raw=raw, seed=5, **options)
                check_same(one, other)
                lengths |= set(one.lengths.tolist())
    assert len(lengths) > 8
    programs = np.random.default_rng(0).integers(3, 65, (3, 50)).astype(np.uint8)
    monkeypatch.undo()
    np.testing.assert_allclose(logits_of(model, programs), batch_logits(model, programs), atol=1e-4)


def test_the_empty_prompt_and_the_last_position(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    check_same(*both(monkeypatch, model, [np.zeros(0, np.uint8)], form="free", max_tokens=96, temperature=1.0))
    long = [cg.encode(" ".join(["1 ,"] * 46))]
    check_same(*both(monkeypatch, model, long, form="free", max_tokens=4, temperature=1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_folder_is_read_without_its_model(config: ModelConfig, dtype: torch.dtype, tmp_path: Path) -> None:
    cg.save_model(tiny(config, "little"), tmp_path / "x", {"seed": 3}, dtype)
    model, decoder = cg.load_model(tmp_path / "x"), load_decoder(tmp_path / "x")
    assert (decoder.endian, decoder.card["seed"]) == ("little", 3)
    check_same(
        *(complete(one, PROMPTS, form="value", max_tokens=24, temperature=1.0, raw=True) for one in (decoder, model))
    )
    programs = np.array([PROMPTS[0]])
    np.testing.assert_allclose(logits_of(decoder, programs), batch_logits(model, programs), atol=1e-4)


def test_decoder_follows_changed_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are changed: optimizers increase the version counter, `.data` and numpy do not."""
    model = tiny(CONFIGS["untied"])
    options = {"form": "free", "max_tokens": 9, "raw": True}
    seen = [complete(model, PROMPTS[:1], **options)]
    parameters = dict(model.named_parameters())
    for change in (
        lambda: model.layers[1].mlp.down_proj.weight.data.mul_(3),  # type: ignore[union-attr, operator]
        lambda: parameters["layers.0.self_attn.q_proj.weight"].detach().numpy().__imul__(3),
        lambda: setattr(model.norm, "weight", nn.Parameter(torch.rand(24))),
        lambda: model.sin.mul_(-1),
        lambda: model.load_state_dict(Transformer(model.config, 9).state_dict()),
    ):
        change()
        check_same(*both(monkeypatch, model, PROMPTS[:1], **options))
        seen.append(complete(model, PROMPTS[:1], **options))
    values = [done.raw_log_probs[0, 0] for done in seen if done.raw_log_probs is not None]
    assert len(set(values)) == len(seen)


class Louder(Transformer):
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return 2 * super().logits(hidden)


def test_modified_model_gets_no_decoder() -> None:
    model = tiny()
    assert decoder_of(model, 1) is not None
    assert decoder_of(model, decoding.ROWS) is not None
    assert decoder_of(model, decoding.ROWS + 1) is None
    for name in ("layers.1.residual_after", "layers.0.self_attn.q_proj", "norm"):
        with model.hooked({name: torch.zeros_like}):
            assert decoder_of(model, 1) is None
    handle = model.layers[0].register_forward_pre_hook(lambda *_: None)
    assert decoder_of(model, 1) is None
    handle.remove()
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder_of(model, 1) is None
    for attention in ("plain", "fused"):
        model.attention = attention
        assert decoder_of(model, 1) is None
    model.attention = "auto"
    assert decoder_of(model, 1) is not None
    down: Any = model.layers[0].mlp
    for changed in (nn.Linear(40, 24, bias=False), nn.Linear(40, 24)):
        before, down.down_proj = down.down_proj, changed
        assert decoder_of(model, 1) is None
        down.down_proj = before
    down.forward = lambda x: x
    assert decoder_of(model, 1) is None
    del down.forward
    assert decoder_of(model, 1) is not None
    for other in (replace(model.config, hidden=48), replace(model.config, context=48)):
        model.config = other
        assert decoder_of(model, 1) is None
    assert decoder_of(Louder(SMALL), 1) is None
    for dtype in (torch.bfloat16, torch.float64):
        assert decoder_of(tiny().to(dtype), 1) is None
    assert decoder_of(tiny().to("meta"), 1) is None
    assert decoder_of(Transformer(ModelConfig(width=512, layers=8, heads=8)), 1) is None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_an_error(tmp_path: Path, temperature: float) -> None:
    options: dict[str, Any] = {"form": "value", "max_tokens": 9, "temperature": temperature}
    model = tiny(CONFIGS["untied"])
    with torch.no_grad():
        model.embed_tokens.weight[isa.ID["mul"]] = torch.nan  # which the first two prompts do not have
    with pytest.raises(FloatingPointError, match=r"prompt 2: logits at token 0 of its completion are not .*embed_tok"):
        complete(model, PROMPTS, **options)
    for value in (torch.nan, torch.inf):
        model = tiny(CONFIGS["untied"])
        assert model.lm_head is not None
        with torch.no_grad():
            model.lm_head.weight[isa.ID["end"]] = value  # never allowed at first
        with pytest.raises(FloatingPointError, match=r"prompt 0: logits at token 0 .*lm_head"):
            complete(model, PROMPTS, **options)
    model = tiny()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(1e25 if "mlp" in name else 1)
    cg.save_model(model, tmp_path / "x", {})
    with pytest.raises(FloatingPointError, match=r"prompt 0: logits at token 0 .* overflow in float32"):
        complete(load_decoder(tmp_path / "x"), PROMPTS, **options)


WRONG = [
    ({"seed": 0.5}, "seed = 0.5"),
    ({"seed": True}, "seed = True"),
    ({"max_tokens": 20.0}, "max_tokens = 20.0"),
    ({"thought_tokens": float("nan")}, "thought_tokens = nan"),
    ({"batch_size": "9"}, "batch_size = '9'"),
    ({"temperature": "1"}, "temperature = '1'"),
    ({"temperature": 10**400}, "temperature = 1"),
    ({"form": ["value"]}, r"form = \['value'\]"),
    ({"form": 0}, "form = 0"),
    ({"form": "words", "words": ["add", 1]}, "words = "),
    ({"form": "words", "words": 5}, "words = 5"),
    ({"endian": ["big"]}, "endian = "),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_both_paths_reject_arguments_of_a_wrong_type(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_decoder("nano-arith")
    with pytest.raises(ValueError, match=said):
        complete(model, ["12 7 add"], **options)
    monkeypatch.setattr(decoding, "ROWS", 0)
    with pytest.raises(ValueError, match=said):
        complete(cg.load_model("nano-arith"), ["12 7 add"], **options)


@pytest.mark.parametrize("prompts", [None, 3, "12 7 add"])
def test_invalid_prompts_are_rejected(prompts: Any) -> None:
    with pytest.raises(ValueError, match="prompts = "):
        complete(load_decoder("nano-arith"), prompts)


@pytest.mark.parametrize("options", [{"temperature": 1e-300}, {"temperature": 1e300}, {"raw": "yes"}])
def test_both_paths_agree_on_extreme_arguments(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    few = complete(load_decoder("nano-arith"), ["12 7 add"], thought_tokens=10**30, **options)
    monkeypatch.setattr(decoding, "ROWS", 0)
    many = complete(cg.load_model("nano-arith"), ["12 7 add"], thought_tokens=10**30, **options)
    assert np.array_equal(few.tokens, many.tokens)
    assert np.allclose(few.log_probs, many.log_probs, atol=1e-4)


def test_integer_temperature_reuses_compiled_kernels() -> None:
    model = load_decoder("nano-arith")
    complete(model, ["12 7 add"], temperature=1.0)
    compiled = decoding.complete_row.signatures  # type: ignore[attr-defined]
    complete(model, ["12 7 add"], temperature=1, seed=np.int64(3), max_tokens=np.int32(30), raw=np.True_)  # type: ignore[arg-type]
    assert decoding.complete_row.signatures == compiled  # type: ignore[attr-defined]


def test_words_may_be_a_list() -> None:
    model = load_decoder("nano-arith")
    listed, given = (complete(model, ["12 7 add"], form="words", words=kind(["add", "eq"])) for kind in (list, tuple))  # type: ignore[arg-type,operator]
    assert np.array_equal(listed.tokens, given.tokens)
