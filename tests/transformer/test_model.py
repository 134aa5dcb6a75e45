"""The transformer: what it attends to, what it agrees with, and what hooks can do."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.transformer.linear import Product, linear
from cadmus_gym.transformer.model import ModelConfig, Transformer, rotate, with_bos

SMALL = ModelConfig(width=32, layers=2, heads=4, hidden=48, context=64)
GROUPED = replace(SMALL, key_value_heads=2, tied=False)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def model_of(config: ModelConfig = SMALL, attention: str = "auto") -> Transformer:
    model = Transformer(config, seed=1)
    with torch.no_grad():  # far from uniform, so that a difference shows
        model.embed_tokens.weight.mul_(20)
    model.attention = attention
    return model


def tokens_of(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(2, len(VOCABULARY), (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("attention", ["auto", "plain", "fused"])
@pytest.mark.parametrize("config", [SMALL, GROUPED])
def test_later_tokens_do_not_change_earlier_logits(config, attention):
    model, tokens = model_of(config, attention), tokens_of(3, 12)
    before = model(tokens)
    for place in (1, 7, 11):
        changed = tokens.clone()
        changed[:, place:] = tokens_of(3, 12 - place, seed=9)
        after = model(changed)
        torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-5, rtol=0)
        assert (after[:, place] - before[:, place]).abs().max() > 1e-2


@pytest.mark.parametrize("attention", ["plain", "fused"])
@pytest.mark.parametrize("config", [SMALL, GROUPED])
def test_padding_does_not_change_logits(config, attention):
    model, lengths = model_of(config, attention), [1, 5, 9]
    tokens = tokens_of(3, 9)
    alone = [model(tokens[k : k + 1, :length])[0] for k, length in enumerate(lengths)]
    right = tokens.clone()
    left = torch.zeros_like(tokens)
    positions = torch.full((3, 9), -1)
    for k, length in enumerate(lengths):
        right[k, length:] = k
        left[k, 9 - length :] = tokens[k, :length]
        positions[k, 9 - length :] = torch.arange(length)
    padded_right, padded_left = model(right), model(left, positions)
    assert torch.isfinite(padded_left).all()
    for k, length in enumerate(lengths):
        torch.testing.assert_close(padded_right[k, :length], alone[k], atol=1e-5, rtol=0)
        torch.testing.assert_close(padded_left[k, 9 - length :], alone[k], atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [SMALL, GROUPED])
def test_plain_attention_equals_the_fused_kernel(config):
    tokens = tokens_of(4, 17)
    plain, fused = (model_of(config, attention) for attention in ("plain", "fused"))
    torch.testing.assert_close(plain(tokens), fused(tokens), atol=1e-5, rtol=0)
    for model in (plain, fused):
        F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    for (name, one), other in zip(plain.named_parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["auto", "plain", "fused"])
@pytest.mark.parametrize("config", [SMALL, GROUPED])
def test_cached_steps_equal_one_pass(config, attention):
    """Prompts of unequal length; some rows are dropped, the others moved, and the cache grows."""
    model, tokens = model_of(config, attention), tokens_of(5, 20)
    whole = model(tokens)
    lengths = torch.tensor([3, 7, 1, 4, 5])
    cache = model.new_cache(5, 12)
    logits = torch.empty(5, 7, len(VOCABULARY))
    for start, stop in ((0, 2), (2, 5)):
        logits[start:stop] = model(tokens[start:stop, :7], cache=cache.part(start, stop))
    cache.length = 7
    cache.positions[cache.positions >= lengths[:, None]] = -1
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(logits[row, :length], whole[row, :length], atol=1e-5, rtol=0)
    held = torch.arange(5)
    for step in range(10):
        if step == 3:
            kept = torch.tensor([4, 1, 3])
            cache.keep(kept)
            held = held[kept]
        if step == 5:
            kept = torch.tensor([1, 0, 0, 2])
            cache = cache.copied(kept)
            cache.grow(30)
            held = held[kept]
        at = lengths[held] + step
        logits = model(tokens[held, at][:, None], at[:, None], cache)[:, 0]
        torch.testing.assert_close(logits, whole[held, at], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_cache_continues_without_positions():
    model, tokens = model_of(), tokens_of(2, 9)
    cache = model.new_cache(2, 9)
    parts = [model(tokens[:, start:stop], cache=cache) for start, stop in ((0, 4), (4, 8), (8, 9))]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", [SMALL, GROUPED])
def test_model_memorizes_a_small_batch(config):
    model, tokens = Transformer(config), tokens_of(4, 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        logits = model(with_bos(tokens)[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # After `<bos>` the four rows cannot be told apart, so the loss of their first token is at least log 4.
    rest = F.cross_entropy(model(with_bos(tokens)[:, :-1])[:, 1:].flatten(0, 1), tokens[:, 1:].flatten())
    assert rest < 0.1


def test_rotation_by_hand():
    """The second pair (x[1], x[5]) of a head of width 8 rotates by position / 10000^(1/4), as in Llama."""
    model = model_of()
    turned = rotate(torch.eye(8)[[1, 5]].view(1, 2, 1, 8), model.cos[[0, 7], None], model.sin[[0, 7], None])
    angle = 7 / 10
    assert turned[0, 0, 0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    assert turned[0, 1, 0].tolist() == pytest.approx([0, -math.sin(angle), 0, 0, 0, math.cos(angle), 0, 0])


def test_with_bos():
    rows = torch.tensor([[14, 15], [16, 0]], dtype=torch.uint8)
    assert with_bos(rows).tolist() == [[op.BOS, 14, 15], [op.BOS, 16, 0]]
    assert with_bos(rows).dtype == torch.int64


def test_initial_weights_depend_on_the_seed_alone():
    config = ModelConfig(width=256, layers=2, heads=4, hidden=680)
    model, again, other = Transformer(config, seed=3), Transformer(config, seed=3), Transformer(config, seed=4)
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    for (name, weight), same, different in zip(
        model.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(weight, same)
        assert weight.ndim == 1 or not torch.equal(weight, different), name
    model.initialize(4)
    assert torch.equal(model.embed_tokens.weight, other.embed_tokens.weight)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is not drawn from
    layer = model.layers[0]
    assert layer.self_attn.q_proj.weight.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert layer.mlp.down_proj.weight.std().item() == pytest.approx(680**-0.5 / 2, rel=0.02)
    loss = F.cross_entropy(model(tokens_of(8, 8)).flatten(0, 1), tokens_of(8, 8, seed=1).flatten())
    assert loss.item() == pytest.approx(math.log(65), abs=0.2)


def test_the_default_has_a_million_parameters():
    assert sum(weight.numel() for weight in Transformer(ModelConfig()).parameters()) == 997_888


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("width", 0, "an integer above 0"),
        ("layers", True, "an integer above 0"),
        ("hidden", 12.0, "an integer above 0"),
        ("context", "9", "an integer above 0"),
        ("heads", 3, "divisors of width = 32 that give heads of even width"),
        ("heads", 32, "divisors of width = 32 that give heads of even width"),
        ("key_value_heads", 3, "a divisor of heads = 4"),
        ("key_value_heads", 0, "an integer above 0"),
        ("rope_theta", 0, "a finite number above 0"),
        ("norm_eps", math.nan, "a finite number above 0"),
        ("tied", 1, "True or False"),
    ],
)
def test_config_rejects_impossible_sizes(field, value, allowed):
    with pytest.raises(ValueError, match=f"{field} = .*; allowed: {allowed}"):
        replace(SMALL, **{field: value})


def test_config_fills_in_defaults():
    assert ModelConfig(heads=8).key_value_heads == 8
    assert ModelConfig(rope_theta=100).rope_theta == 100.0
    assert type(ModelConfig(rope_theta=100).rope_theta) is float


def test_more_tokens_than_the_context_are_rejected():
    model = model_of()
    for tokens in (tokens_of(1, 65), tokens_of(1, 1)[0], tokens_of(1, 0)):
        with pytest.raises(ValueError, match=r"allowed: \(B, T\) with T from 1 to 64"):
            model(tokens)
    cache = model.new_cache(1, 5)
    model(tokens_of(1, 3), cache=cache)
    with pytest.raises(ValueError, match="with T from 1 to 2, the room left in the cache and the context"):
        model(tokens_of(1, 3), cache=cache)
    model.attention = "flash"
    with pytest.raises(ValueError, match="allowed: auto, plain, fused"):
        model(tokens_of(1, 3))


@torch.no_grad()
def test_hooks_see_and_edit():
    model, tokens = model_of(), tokens_of(2, 6)
    before = model(tokens)
    names = model.hook_points()
    assert len(names) == 2 * 6
    assert names[0] == "layers.0.residual_before"
    seen: dict[str, Tensor] = {}
    actions = {name: (lambda value, name=name: seen.update({name: value})) for name in names}
    with model.hooked(actions):
        torch.testing.assert_close(model(tokens), before, atol=1e-5, rtol=0)
    assert set(seen) == set(names)
    assert seen["layers.1.residual_after"].shape == (2, 6, 32)
    assert seen["layers.1.mlp.activation"].shape == (2, 6, 48)
    assert seen["layers.1.self_attn.mixed"].shape == (2, 4, 6, 8)
    final = model.logits(model.norm(seen["layers.1.residual_after"]))
    torch.testing.assert_close(final, before, atol=1e-5, rtol=0)
    pattern = seen["layers.0.self_attn.pattern"]
    assert pattern.shape == (2, 4, 6, 6)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 4, 6))
    assert pattern.triu(1).abs().max() == 0

    ablation = dict.fromkeys(("layers.0.mlp", "layers.0.self_attn"), torch.zeros_like)
    with model.hooked({**ablation, "layers.0.residual_after": lambda value: seen.update(skipped=value)}):
        ablated = model(tokens)
    assert (ablated - before).abs().max() > 1e-2
    assert torch.equal(seen["skipped"], seen["layers.0.residual_before"])
    assert torch.equal(model(tokens), before)  # nothing else has changed


def test_unknown_hook_points_are_rejected():
    model = model_of()
    actions = {"layers.0.mlp": torch.zeros_like, "layers.9.mlp": torch.zeros_like}
    message = "no hook point 'layers.9.mlp'; known: layers.0.residual_before, "
    with pytest.raises(ValueError, match=message), model.hooked(actions):
        pass
    assert not model.layers[0].mlp._forward_hooks


@pytest.mark.skipif(not Product.enabled, reason="this build of PyTorch has no oneDNN")
@pytest.mark.parametrize("shape", [(200, 24), (5, 40, 24)])
def test_products_equal_pytorchs_own(shape):
    generator = torch.Generator().manual_seed(0)
    x, weight, pull = (torch.randn(s, generator=generator) for s in (shape, (16, 24), (*shape[:-1], 16)))
    x.requires_grad_()
    weight.requires_grad_()
    ours, theirs = linear(x, weight), F.linear(x, weight)
    assert type(ours.grad_fn).__name__ == "ProductBackward"
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
    wanted = torch.autograd.grad(theirs, (x, weight), pull)
    torch.testing.assert_close(torch.autograd.grad(ours, (x, weight), pull), wanted, atol=1e-4, rtol=1e-5)
    assert type(linear(x[:1, :1] if x.ndim == 3 else x[:1], weight).grad_fn).__name__ != "ProductBackward"
