"""Log-probabilities of completions are those of a full pass, whatever the batch, the form and the order of digits."""

import numpy as np
import pytest
import torch

from cadmus_gym.evaluation.completing import complete
from cadmus_gym.evaluation.truth import prompts_of as prompts_of_split
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import Automata, Rules, reverse_digits
from cadmus_gym.language.machine import run, run_batch
from cadmus_gym.language.notation import assemble, decode, encode
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.transformer import batched
from cadmus_gym.transformer.cache import Cache
from cadmus_gym.transformer.checkpoint import load_model
from cadmus_gym.transformer.generate import Completions, fill_uniforms
from cadmus_gym.transformer.model import ModelConfig, Transformer, with_bos

SMALL = ModelConfig(width=32, layers=2, heads=4, key_value_heads=2, hidden=48, context=64, tied=False)
FORMS = {
    "value": {},
    "relation": {},
    "argument": {},
    "words": {"words": ("add", "mul", "dup", "1", "2", "if", "fi")},
    "free": {},
}
PROMPTS = ["12 7 add", "5 neg", "1 inc", "99 3 mul 4 sub", "123456 654321 add", "0 not", "7 8 9 add add 60 sub"]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer(SMALL, seed=1)
    with torch.no_grad():  # sharp enough that tokens differ much in probability, and `end` comes at unequal times
        model.embed_tokens.weight.mul_(20)
        model.lm_head.weight.mul_(20)
    return model


def prompts_of(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts (N, L) of unequal length, each three times, and their lengths."""
    rows = [assemble(f"{k * 37 % 1000} {k % 89} add" if k % 3 else f"{k} neg") for k in range(-(-count // 3))]
    rows = [row for row in rows for _ in range(3)][:count]
    prompts = np.zeros((count, max(map(len, rows))), np.uint8)
    for prompt, row in zip(prompts, rows, strict=True):
        prompt[: len(row)] = row
    return prompts, np.array([len(row) for row in rows])


@torch.no_grad()
def check_by_full_passes(
    model: Transformer, done: Completions, form: str, temperature: float, endian: str, max_tokens: int = 24
) -> None:
    """Compare completions and log-probabilities with a separate pass over each finished program."""
    words = FORMS[form].get("words", ())
    for k, (length, prompt_length) in enumerate(zip(done.lengths, done.prompt_lengths, strict=True)):
        program = done.programs[k, : prompt_length + length]
        prompt, completion = program[:prompt_length], program[prompt_length:]
        assert np.array_equal(completion, done.tokens[k, :length])
        assert not done.programs[k, prompt_length + length :].any()
        assert not done.tokens[k, length:].any()
        assert not done.log_probs[k, length:].any()
        if endian == "little":
            prompt, completion = reverse_digits(prompt), reverse_digits(completion)
        shown = np.concatenate([prompt, completion])
        logits = model(with_bos(torch.from_numpy(shown[None])))[0, prompt_length:-1]
        rules = Rules(form, words, max_tokens, max_tokens)
        automata = Automata(rules, done.programs[k : k + 1, :prompt_length], np.array([prompt_length]), endian)
        for step, token in enumerate(completion):
            allowed = torch.from_numpy(automata.mask()[0])
            assert allowed[token]
            masked = logits[step].masked_fill(~allowed, -torch.inf)
            expected = (masked / (temperature or 1.0)).log_softmax(0)[token]
            assert done.log_probs[k, step] == pytest.approx(expected.item(), abs=1e-5)
            if done.raw_log_probs is not None:
                raw = logits[step].log_softmax(0)[token]
                assert done.raw_log_probs[k, step] == pytest.approx(raw.item(), abs=1e-5)
            if temperature == 0:
                assert masked[token] >= masked.max() - 1e-5
            assert not automata.done[0]
            automata.push(np.array([token]))
        assert automata.done[0]


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("form", FORMS)
def test_log_probabilities_equal_those_of_a_full_pass(model, form, temperature, endian):
    done = complete(
        model,
        [assemble(prompt) for prompt in PROMPTS],
        form=form,
        temperature=temperature,
        endian=endian,
        max_tokens=24,
        raw=True,
        **FORMS[form],
    )
    check_by_full_passes(model, done, form, temperature, endian)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_completions_do_not_depend_on_the_batch(model, temperature, monkeypatch):
    """Rows are dropped, moved or alone, the cache grows, a prompt is read once for three completions: all agree."""
    prompts, lengths = prompts_of(75)
    calls = {"keep": 0, "copied": 0, "grow": 0}
    for name in calls:
        method = getattr(Cache, name)

        def counted(*arguments, name=name, method=method):
            calls[name] += 1
            return method(*arguments)

        monkeypatch.setattr(Cache, name, counted)
    allocate = Cache.__init__

    def allocated(self, *arguments):
        allocate(self, *arguments)
        for store in (*self.keys, *self.values):
            store.fill_(10.0)  # unused slots must not matter

    monkeypatch.setattr(Cache, "__init__", allocated)
    monkeypatch.setattr(batched, "PROMPTS", 4)
    options = {"form": "value", "temperature": temperature, "seed": 5, "max_tokens": 24}
    done = complete(model, prompts, prompt_lengths=lengths, **options)
    assert min(calls.values()) >= 1
    assert len(set(done.lengths.tolist())) > 5
    check_by_full_passes(model, done, "value", temperature, "big")
    for batch_size in (1, 7, 40):
        again = complete(model, prompts, batch_size=batch_size, **options)
        assert np.array_equal(again.tokens, done.tokens)
        np.testing.assert_allclose(again.log_probs, done.log_probs, atol=1e-5)
    order = np.argsort(-lengths, kind="stable")
    if temperature == 0:  # a sample also depends on the number of its row
        shuffled = complete(model, prompts[order], **options)
        assert np.array_equal(shuffled.tokens, done.tokens[order])


def test_hooks_see_every_activation_and_change_nothing(model):
    """Also where products are merged, or the end of the last layer is skipped, unless something is hooked."""
    prompts, lengths = prompts_of(9)
    options = {"form": "value", "temperature": 1.0, "max_tokens": 24}
    plain = complete(model, prompts, prompt_lengths=lengths, **options)
    seen = {"layers.1.residual_after": 0, "layers.1.self_attn.v_proj": 0}

    def count(name):
        def look(value):
            seen[name] += value.shape[0] * value.shape[1]

        return look

    with model.hooked({name: count(name) for name in seen}):
        hooked = complete(model, prompts, prompt_lengths=lengths, **options)
    assert np.array_equal(hooked.programs, plain.programs)
    np.testing.assert_allclose(hooked.log_probs, plain.log_probs, atol=1e-5)
    assert len(set(seen.values())) == 1
    assert min(seen.values()) >= lengths[::3].sum() + plain.lengths.sum() - len(prompts)


@pytest.mark.parametrize("attention", ["plain", "fused"])
def test_completions_under_either_attention(model, attention):
    prompts, lengths = prompts_of(9)
    model.attention = attention
    try:
        done = complete(model, prompts, form="value", temperature=1.0, max_tokens=24)
        check_by_full_passes(model, done, "value", 1.0, "big")
    finally:
        model.attention = "auto"
    assert np.array_equal(done.prompt_lengths, lengths)


def test_completions_depend_on_the_seed(model):
    prompts, _ = prompts_of(30)
    options = {"form": "value", "temperature": 1.0, "max_tokens": 24}
    first, same, other = (complete(model, prompts, seed=seed, **options) for seed in (1, 1, 2))
    assert np.array_equal(first.tokens, same.tokens)
    assert np.array_equal(first.log_probs, same.log_probs)
    assert first.tokens.shape != other.tokens.shape or not np.array_equal(first.tokens, other.tokens)
    assert any(not np.array_equal(first.tokens[k], first.tokens[k + 1]) for k in range(0, 30, 3))  # of one prompt


def test_raw_changes_nothing_else(model):
    for form in ("value", "relation"):
        with_raw, without = (
            complete(model, PROMPTS_TOKENS, form=form, temperature=1.0, raw=raw, max_tokens=24) for raw in (True, False)
        )
        assert np.array_equal(with_raw.programs, without.programs)
        np.testing.assert_allclose(with_raw.log_probs, without.log_probs, atol=1e-6)
        assert without.raw_log_probs is None
        assert (with_raw.raw_log_probs <= with_raw.log_probs + 1e-6).all()  # the mask can only increase them


PROMPTS_TOKENS = [assemble(prompt) for prompt in PROMPTS]


def test_samples_follow_their_probabilities(model):
    """Compares 20,000 first tokens after one prompt with their reported probabilities."""
    count = 20_000
    prompts = np.repeat(encode("1 2 , 7 add")[None], count, axis=0)
    options = {"form": "value", "max_tokens": 5, "thought_tokens": 0, "batch_size": count}
    for temperature in (1.0, 0.5):
        done = complete(model, prompts, temperature=temperature, seed=3, **options)
        first, log_probs = done.tokens[:, 0], done.log_probs[:, 0]
        total = 0.0
        for token in np.unique(first):
            probability = np.exp(log_probs[first == token][0])
            share = (first == token).mean()
            assert abs(share - probability) < 4.5 * np.sqrt(probability / count) + 1e-4
            total += probability
        assert total == pytest.approx(1.0, abs=2e-3)
        assert len(np.unique(first)) > 4


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1e30])
def test_extreme_temperatures(model, temperature):
    options = {"form": "value", "max_tokens": 24, "thought_tokens": 0}
    done = complete(model, PROMPTS_TOKENS, temperature=temperature, **options)
    assert np.isfinite(done.log_probs).all()
    greedy = complete(model, PROMPTS_TOKENS, **options)
    if temperature < 1e-3:
        assert np.array_equal(done.tokens, greedy.tokens)
        assert not done.log_probs.any()


def test_endian_defaults_to_that_of_the_model(model):
    """A model of the other endian, given the reversed prompt, writes the reversed completion."""
    prompts = [encode("1 2 , 7 add"), encode("3 4 5 , 6 7 mul")]
    mirrored = [reverse_digits(prompt) for prompt in prompts]
    model.endian = "little"
    try:
        little = complete(model, prompts, form="free", max_tokens=20)
    finally:
        model.endian = "big"
    big = complete(model, mirrored, form="free", max_tokens=20)
    assert np.array_equal(little.tokens, reverse_digits(big.tokens))
    assert np.array_equal(little.log_probs, big.log_probs)
    for k, prompt in enumerate(prompts):
        assert np.array_equal(little.programs[k, : prompt.size], prompt)


def test_budgets(model):
    for form in FORMS:
        done = complete(
            model, PROMPTS_TOKENS, form=form, temperature=2.0, max_tokens=9, thought_tokens=3, **FORMS[form]
        )
        assert done.lengths.max() <= 9
        for tokens, length in zip(done.tokens, done.lengths, strict=True):
            assert form == "free" or tokens[length - 1] == op.END
            assert length == 9 or tokens[length - 1] == op.END
    without = complete(model, PROMPTS_TOKENS, form="value", temperature=2.0, max_tokens=24, thought_tokens=0)
    assert "(" not in decode(without.tokens[without.tokens > 0])
    # All positions of the context can be used: `<bos>`, 60 tokens of prompt, and 4, of which the last is not read.
    full = complete(model, [encode(" ".join(["1 ,"] * 30))], form="free", max_tokens=4)
    assert full.lengths[0] <= 4


def test_prompts_may_have_many_shapes(model):
    texts = ["12 7 add", "5", "-1"]
    tokens = [encode(text) for text in ("1 2 , 7 add", "5", "1 neg")]
    rows = np.zeros((3, 9), np.int64)
    for row, one in zip(rows, tokens, strict=True):
        row[: one.size] = one
    wanted = complete(model, tokens, form="value", max_tokens=12)
    noisy = np.where(rows == 0, 33, rows)
    for prompts, lengths in (
        (texts, None),
        (tuple(tokens), None),
        ([one.tolist() for one in tokens], None),
        (rows, None),
        (rows, [5, 1, 2]),
        (noisy, [5, 1, 2]),  # what follows a prompt is ignored
    ):
        done = complete(model, prompts, prompt_lengths=lengths, form="value", max_tokens=12)
        assert np.array_equal(done.programs, wanted.programs)
    assert done.prompt_lengths.tolist() == [5, 1, 2]
    assert (done.tokens.dtype, done.programs.dtype, done.lengths.dtype) == (np.uint8, np.uint8, np.int32)
    assert done.log_probs.dtype == np.float32


@pytest.mark.parametrize(("name", "least"), [("nano", 0.95), ("nano-arith", 1)])  # nano drops the sign of `3 4 sub`
def test_models_that_ship_complete_what_people_write(name, least):
    texts = [f"{x} {y} {operator}" for x in range(10) for y in range(10) for operator in ("add", "sub", "mul")]
    done = complete(load_model(name), ["12 7 add", "5 5 sub", *texts])
    assert np.mean([run(program).true for program in done.programs]) >= least
    assert [decode(row[row > 0]) for row in done.tokens[:2]] == ["1 9 eq end", "0 eq end"]


def test_little_endian_rejects_a_prompt_that_an_answer_would_lengthen(model):
    for prompt in (encode("1 2"), encode("1 2 , 7")):
        complete(model, [prompt], form="value", endian="big", max_tokens=9)
        with pytest.raises(ValueError, match=r"prompt 0, .* ends inside a literal: under endian 'little'"):
            complete(model, [prompt], form="value", endian="little", max_tokens=9)
    complete(model, [encode("1 2")], form="relation", endian="little", max_tokens=9)


def test_token_text_as_prompt_warns(model):
    with pytest.warns(UserWarning, match="is read as `1 2 7 add`, .* it is `12 7 add`") as warned:
        done = complete(model, ["1 2 , 7 add"], form="value", max_tokens=12)
    assert warned[0].filename == __file__
    assert decode(done.programs[0, :6]) == "1 , 2 , 7 add"


def test_pad_inside_a_prompt_is_read(model):
    """Equal rows with different prompt lengths are different prompts."""
    rows, options = np.tile(encode("1 2 <pad>"), (2, 1)), {"form": "free", "max_tokens": 6, "raw": True}
    both = complete(model, rows, prompt_lengths=[2, 3], **options)
    for k, length in enumerate((2, 3)):
        alone = complete(model, rows[:1], prompt_lengths=[length], **options)
        assert both.lengths[k] == alone.lengths[0]
        np.testing.assert_allclose(both.log_probs[k, : alone.lengths[0]], alone.log_probs[0], atol=1e-5)
    assert not np.allclose(both.log_probs[0, 0], both.log_probs[1, 0], atol=1e-4)


def test_no_prompts(model):
    for prompts in ([], np.zeros((0, 5), np.uint8)):
        done = complete(model, prompts, form="value", max_tokens=12)
        assert done.tokens.shape[0] == done.programs.shape[0] == done.lengths.size == 0
    done = complete(model, [""], form="free", max_tokens=3)  # the empty prompt: `<bos>` alone
    assert done.prompt_lengths.tolist() == [0]
    assert 1 <= done.lengths[0] <= 3


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("1 add", {}, "a sequence of texts or arrays"),
        (["1 2", "twelve"], {}, "is not a token"),
        (np.zeros(3, np.uint8), {}, r"shape \(3,\); allowed: \(N, L\)"),
        (np.full((1, 2), 65), {}, "token id 65"),
        (["1 2"], {"prompt_lengths": [2]}, "those in a sequence have their own"),
        (np.full((2, 3), 14), {"prompt_lengths": [1, 4]}, "prompt_lengths run from 1 to 4; allowed: 0 to 3"),
        (np.full((2, 3), 14), {"prompt_lengths": [1.0, 2.0]}, "allowed: integers"),
        (["<bos> 1"], {}, "prompt 0 starts with <bos>"),
        (["1", "1 eq end"], {}, "prompt 1, '1 eq end': form 'value' cannot finish"),
        (["1"], {"form": "poem"}, "form = 'poem'"),
        (["1"], {"form": None}, "does not say what it was trained on; give a form, .*, or a spec"),
        (["1"], {"form": "value", "words": ("add",)}, "no other has one"),
        (["1"], {"spec": "Cadmus-Arit-v0"}, "did you mean Cadmus-Arith-v0"),
        (["1"], {"spec": "Cadmus-Arith-v0", "max_tokens": None}, "max_tokens = 80; allowed: 1 to 63"),
        (["1"], {"max_tokens": 0}, "max_tokens = 0; allowed: 1 to 63"),
        (["1"], {"max_tokens": 64}, "allowed: 1 to 63, what prompts of 1 tokens leave of the context of 64"),
        (["1" * 64], {}, "prompt 0 has 64 tokens; allowed: below 64"),
        (["1"], {"thought_tokens": -1}, "thought_tokens = -1; allowed: 0 or more"),
        (["1"], {"temperature": -1.0}, "temperature = -1.0; allowed"),
        (["1"], {"temperature": float("nan")}, "temperature = nan; allowed"),
        (["1"], {"seed": -1}, "seed = -1: give a whole number from 0"),
        (["1"], {"batch_size": 0}, "batch_size = 0; allowed: 1 or more"),
        (["1"], {"endian": "middle"}, "endian = 'middle'"),
    ],
)
def test_complete_rejects_what_cannot_be_completed(model, prompts, options, message):
    with pytest.raises(ValueError, match=message):
        complete(model, prompts, **{"form": "value", "max_tokens": 12, **options})


def test_uniforms():
    uniforms, again = np.empty((500, 40)), np.empty((3, 7))
    fill_uniforms(7, np.arange(500), uniforms)
    fill_uniforms(7, np.array([3, 499, 0]), again)
    assert np.array_equal(again, uniforms[[3, 499, 0], :7])
    assert uniforms.min() >= 0
    assert uniforms.max() < 1
    assert abs(uniforms.mean() - 0.5) < 0.01
    assert len(np.unique(uniforms)) > 0.999 * uniforms.size
    fill_uniforms(8, np.array([3, 499, 0]), again)
    assert not np.isin(again, uniforms).any()


def test_largest_uniform_draws_an_allowed_token(model):
    """Near 1, rounding must not go past the last token of positive probability."""
    logits = torch.zeros(1, 65)
    allowed = np.zeros((1, 65), np.bool_)
    allowed[0, [13, 20]] = True
    for uniform, token in ((0.0, 13), (0.4999, 13), (0.5, 20), (1 - 2.0**-32, 20)):
        drawn, log_prob, raw = batched._draw(logits, allowed, 1.0, np.array([uniform]))
        assert drawn.item() == token
        assert log_prob.item() == pytest.approx(np.log(0.5))
        assert raw.item() == pytest.approx(-np.log(65))


def test_no_temperature_is_too_small():
    """Logits divided by this temperature would overflow float32."""
    logits, allowed = torch.zeros(1, 65), np.ones((1, 65), np.bool_)
    logits[0, 20], logits[0, 30] = 3000.0, 2999.0
    drawn, log_prob, _ = batched._draw(logits, allowed, 1e-36, np.array([0.9]))
    assert (drawn.item(), log_prob.item()) == (20, 0.0)


NANO = ("Cadmus-Compare-v0", "Cadmus-Arith-v0", "Cadmus-Stack-v0")


def test_complete_defaults_to_the_rules_of_the_environment() -> None:
    """For nano those of its mixture, so it answers relations, too; those of another environment on request."""
    nano = load_model("nano")
    for id in NANO:
        prompts, lengths = prompts_of_split(id, "test", 40)
        plain = complete(nano, prompts, prompt_lengths=lengths)
        for asked in ({"spec": id}, {"spec": load_spec(id)}):
            done = complete(nano, prompts, prompt_lengths=lengths, **asked)
            assert (run_batch(done.programs)[0] == Verdict.TRUE).mean() >= 0.95
            assert np.array_equal(
                done.programs[:, : plain.programs.shape[1]], plain.programs[:, : done.programs.shape[1]]
            )
    # relations need only `not end`; a given form and budget override those of the spec
    done = complete(nano, [assemble("812 97 lt")], spec="Cadmus-Compare-v0", form="value", max_tokens=5)
    assert done.lengths[0] <= 5
    assert decode(done.tokens[0]).endswith("eq end")
    few = complete(nano, [assemble("61 78 mul 5 sub")] * 2, thought_tokens=4)
    assert "(" not in decode(few.tokens[0])[8:]
    assert few.tokens[0].tolist() == few.tokens[1].tolist()


def broken(where: str) -> Transformer:
    model = Transformer(SMALL, seed=1)
    with torch.no_grad():
        if where == "a weight":
            model.layers[1].mlp.down_proj.weight[3, 4] = torch.nan
        elif where == "the output of one token":
            model.lm_head.weight[44] = torch.inf
        elif where == "a prompt":  # only a prompt that has the token
            model.embed_tokens.weight[encode("mul")[0]] = torch.nan
    return model


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("where", ["a weight", "the output of one token"])
def test_logits_that_are_not_finite_are_an_error(where: str, temperature: float) -> None:
    with pytest.raises(FloatingPointError, match=r"prompt 0: .* token 0 .* has weights that are NaN .* intact"):
        complete(broken(where), PROMPTS_TOKENS, form="value", max_tokens=9, temperature=temperature)


def test_error_names_the_prompt_with_infinite_logits() -> None:
    with pytest.raises(FloatingPointError, match=r"prompt 3: .*embed_tokens.weight"):
        complete(broken("a prompt"), PROMPTS_TOKENS, form="value", max_tokens=9, batch_size=2)
    model = Transformer(SMALL, seed=1)
    with (
        model.hooked({"layers.1.residual_after": lambda value: value * torch.inf}),
        pytest.raises(FloatingPointError, match="overflow in float32, or a hook changed them; compute in another type"),
    ):
        complete(model, PROMPTS_TOKENS, form="value", max_tokens=9)
    whole = complete(model, PROMPTS_TOKENS, form="value", max_tokens=9)  # a hook may replace the logits
    assert np.isfinite(whole.log_probs).all()


def test_no_possible_token_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model, logits = Transformer(SMALL, seed=1), torch.full((1, 65), -torch.inf)
    logits[0, 0] = 0.0  # `<pad>`, which the form does not allow
    monkeypatch.setattr(model, "logits", lambda hidden: logits.expand(len(hidden), 65))
    with pytest.raises(FloatingPointError, match="prompt 0: logits at token 0"):
        complete(model, PROMPTS_TOKENS, form="value", max_tokens=9)


def test_every_batch_is_reported(model) -> None:
    seen: list[tuple[int, int]] = []
    options = {"form": "value", "max_tokens": 9}
    complete(model, PROMPTS_TOKENS, batch_size=3, report=lambda *counts: seen.append(counts), **options)
    assert seen == [(3, 7), (6, 7), (7, 7)]
