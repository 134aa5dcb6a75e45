"""All pictures of the project, in one style: each has a title, and small multiples instead of many colours.

On a logarithmic axis a share of 0 is a hollow marker at 1/n, "below 1/n". A group of few prompts has no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.evaluation.intervals import Tally
from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.language.verdicts import Verdict

BLUE, RED, PALE = "#1f5fa8", "#d1495b", "#9db8d2"
PROGRAMS_SHOWN = 8  # most frequent ones
FEW, LEAST = 100, 10  # a group with fewer prompts is faint and has no interval, or is left out
BARS = 16  # most bars per stratum


def new_figure(width: float, height: float) -> Any:
    """Return a figure, in inches. Raises ModuleNotFoundError, which says what to install, without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pictures need matplotlib: pip install '.[plot]'") from None
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write a PNG with ``about`` as its text chunks, by which a test detects a stale picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata=dict(about or {}))


def percents(*axes: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1))


def plain(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)


def blank(axes: Sequence[Any], used: int) -> None:
    for ax in axes[used:]:
        ax.set_axis_off()


def draw_operands(
    rates: Mapping[str, NDArray[np.float64]],
    name: str,
    trained: tuple[int, int],
    side: int,
    pairs: int,
    path: Path,
    about: Mapping[str, str] | None = None,
) -> None:
    """Draw truth rates (B, B) of each operator by its operands a and b, which are below ``side``.

    ``trained`` has the lowest and highest operand of training. Each square is of ``pairs`` pairs of operands.
    """
    figure = new_figure(4.4 * len(rates) + 1, 4.9)
    axes = figure.subplots(1, len(rates), squeeze=False)[0]
    first, last = trained[0], min(trained[1] + 1, side)
    for ax, (operator, found) in zip(axes, rates.items(), strict=True):
        image = ax.imshow(found, origin="lower", extent=(0, side, 0, side), vmin=0, vmax=1, cmap="viridis")
        ax.plot([first, first, last, last, first], [first, last, last, first, first], color="#ff3b30", linewidth=2)
        width = side // len(found)
        inside = found[first // width : last // width, first // width : last // width]
        ax.set(title=f"a b {operator}: {inside.mean():.1%} inside", xlabel="b", ylabel="a")
    figure.colorbar(image, ax=list(axes), shrink=0.8, label="share of true completions")
    percents(figure.axes[-1].yaxis)
    figure.suptitle(f"{name}: what it computes, by operands; trained inside the line ({pairs} pairs per square)")
    save(figure, path, about)


def draw_errors(
    tables: Mapping[str, Mapping[str, Sequence[int]]],
    name: str,
    what: str,
    path: Path,
    about: Mapping[str, str] | None = None,
) -> None:
    """Draw the share of wrong completions by stratum; ``tables`` has the `Tally` of each label of each stratum."""
    figure = new_figure(4.5 * len(tables), 4.6)
    for ax, (stratum, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        labels = list(table)[:BARS]
        for place, label in enumerate(labels):
            one = Tally(*table[label])
            wrong, (low, high) = 1 - one.rate, one.interval
            if wrong > 0:
                ax.barh(place, wrong, color=PALE)
                ax.errorbar(wrong, place, xerr=[[max(0, wrong - 1 + high)], [max(0, 1 - low - wrong)]], color=BLUE)
            else:
                ax.plot(1 / one.count, place, "o", color=BLUE, markerfacecolor="none")
        ax.set_yticks(range(len(labels)), labels)
        ax.invert_yaxis()
        ax.set(title=f"by {stratum}", xlabel="share of wrong completions; hollow: none, below 1/n", xlim=(0, None))
        ax.locator_params(axis="x", nbins=5)
        percents(ax.xaxis)
        plain(ax)
    figure.suptitle(f"{name}: where it errs, {what}, with 95 % intervals")
    save(figure, path, about)


def draw_curves(
    history: Sequence[Mapping[str, Any]],
    name: str,
    floor: float | None,
    weight: float,
    path: Path,
    about: Mapping[str, str] | None = None,
) -> None:
    """Draw the excess loss during training, and the share of errors on each test split.

    A point of the history has ``count`` prompts per split; ``floor`` and ``weight`` are as in `draw_losses`.
    """
    tokens = [point["tokens"] / 1e6 for point in history]
    splits = [split for split in history[-1]["truth"] if split.split()[-1] == "test"]
    columns = min(4, 1 + len(splits))
    rows = -(-(1 + len(splits)) // columns)
    figure = new_figure(4.2 * columns, 3.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    draw_losses(axes[0], history, floor, weight)
    for ax, split in zip(axes[1:], splits, strict=False):
        counts = [point.get("count", 0) for point in history]
        wrong = [1 - point["truth"][split] for point in history]
        least = [1 / count if count else 1e-3 for count in counts]
        ax.plot(tokens, [share or low for share, low in zip(wrong, least, strict=True)], color=BLUE, linewidth=1)
        for x, share, low in zip(tokens, wrong, least, strict=True):
            ax.plot(x, share or low, "o", color=BLUE, markersize=4, markerfacecolor=BLUE if share else "none")
        ax.set(title=split.removesuffix(" test") or "test", ylabel="errors; hollow: none, below 1/n")
        ax.set(yscale="log")
    for ax in axes[: 1 + len(splits)]:
        ax.set(xlabel="million tokens")
        plain(ax)
    blank(axes, 1 + len(splits))
    figure.suptitle(f"{name}: training, one seed")
    save(figure, path, about)


def draw_losses(ax: Any, history: Sequence[Mapping[str, Any]], floor: float | None, weight: float) -> None:
    """Draw the excess loss of prompts and of completions.

    Older cards do not have them apart: then the loss above ``floor`` is drawn, with tokens of prompts weighted by
    ``weight``. Without a floor it is the loss.
    """
    apart = [point for point in history if "excess_prompts" in point]  # all, or those after an older run was resumed
    if apart:
        tokens = [point["tokens"] / 1e6 for point in apart]
        excess = {part: [point[f"excess_{part}"] for point in apart] for part in ("prompts", "completions")}
        for (part, values), color in zip(excess.items(), (RED, BLUE), strict=True):
            ax.plot(tokens, values, "o-", color=color, markersize=3, label=part)
        positive = min(map(min, excess.values())) > 0  # not always, see `cadmus_gym.evaluation.excess`
        ax.set(title="excess loss", ylabel="nats per token", yscale="log" if positive else "linear")
        ax.legend(frameon=False)
        return
    tokens, losses = [point["tokens"] / 1e6 for point in history], [point["loss"] - (floor or 0.0) for point in history]
    ax.plot(tokens, losses, "o-", color=BLUE, markersize=3)
    title = "loss" if floor is None else "excess loss"
    ax.set(title=title, ylabel=f"nats per token, prompts weighted {weight}", yscale="log")


def draw_reliability(splits: Mapping[str, Mapping[str, Any]], name: str, path: Path, about: Mapping[str, str]) -> None:
    """Draw the share of wrong completions against the probability that the model gives to being wrong.

    There is a panel for each split. Each of its "groups" has the mean probability of its completions, "said", and their
    `Tally`, "counts".
    """
    columns = min(3, len(splits))
    rows = -(-len(splits) // columns)
    figure = new_figure(4.4 * columns, 3.7 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, (split, found) in zip(axes, splits.items(), strict=False):
        ax.plot([1e-5, 1], [1e-5, 1], color="#bbbbbb", linewidth=1)
        for group in found["groups"].values():
            one, doubt = Tally(*group["counts"]), max(1 - group["said"], 1e-5)
            if one.count < LEAST:
                continue
            wrong, (low, high), few = 1 - one.rate, one.interval, one.count < FEW
            look = {"color": BLUE, "alpha": 0.35 if few else 1.0, "markersize": 4 if few else 6}
            if wrong == 0:
                ax.plot(doubt, 1 / one.count, "o", markerfacecolor="none", **look)
            elif few:
                ax.plot(doubt, wrong, "o", **look)
            else:
                bars = [[max(0.0, wrong - 1 + high)], [max(0.0, 1 - low - wrong)]]
                ax.errorbar(doubt, wrong, yerr=bars, fmt="o", capsize=2, elinewidth=0.8, **look)
        ax.set(title=split, xscale="log", yscale="log", xlim=(7e-6, 1.5), ylim=(2e-4, 1.5))
        ax.set(xlabel="1 - probability of the completion", ylabel="share that is wrong")
        plain(ax)
    blank(axes, len(splits))
    figure.suptitle(
        f"{name}: does it know when it is wrong? Points on the line: yes, above it: no.\n"
        f"Hollow: none wrong, below 1/n. Faint: under {FEW} prompts. 95 % intervals"
    )
    save(figure, path, about)


def draw_limits(
    axes_of: Mapping[str, Mapping[str, Mapping[str, Any]]], name: str, path: Path, about: Mapping[str, str]
) -> None:
    """Draw the share of true completions and the probability that the model gives them along each axis.

    The axes lead out of the model's training distribution; values that occur in training are shaded.
    """
    panels = [(id, axis, values) for id, found in axes_of.items() for axis, values in found.items()]
    rows = -(-len(panels) // 3)
    figure = new_figure(13.5, 0.8 + 3.2 * rows)
    grid = figure.subplots(rows, min(3, len(panels)), squeeze=False).ravel()
    for ax, (id, axis, values) in zip(grid, panels, strict=False):
        tallies, places = [Tally(*one["counts"]) for one in values.values()], np.arange(len(values))
        for place, one in enumerate(values.values()):
            if one["trained"]:
                ax.axvspan(place - 0.5, place + 0.5, color=BLUE, alpha=0.1, linewidth=0)
        rates = np.array([one.rate for one in tallies])
        low, high = np.array([one.interval for one in tallies]).T
        ax.errorbar(
            places, rates, yerr=np.clip([rates - low, high - rates], 0, None), color=BLUE, marker="o", capsize=3
        )
        ax.plot(places, [one["said"] for one in values.values()], color=RED, marker="s", linestyle="--")
        ax.set_xticks(places, list(values))
        ax.set(title=id, xlabel=axis, xlim=(-0.5, len(values) - 0.5), ylim=(-0.03, 1.03))
        percents(ax.yaxis)
        plain(ax)
    blank(grid, len(panels))
    lines = [
        grid[0].plot([], [], color=BLUE, marker="o", label="true, with 95 % intervals")[0],
        grid[0].plot([], [], color=RED, marker="s", linestyle="--", label="mean probability of a completion")[0],
        grid[0].fill_between([], [], color=BLUE, alpha=0.1, label="shown in training"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"{name}: where it fails")
    save(figure, path, about)


def draw_study(rows: Sequence[Any], title: str, path: Path) -> None:
    """Draw excess loss of prompts and of completions and test errors against compute, and errors against time, with a
    line for each name."""
    from matplotlib import colormaps, ticker

    figure = new_figure(17, 4.4)
    axes = figure.subplots(1, 4)
    names = list(dict.fromkeys(row.name for row in rows))
    for k, name in enumerate(names):
        budgets = sorted({row.compute for row in rows if row.name == name})
        some = [[row for row in rows if (row.name, row.compute) == (name, budget)] for budget in budgets]
        flops = [fmean(row.flops for row in of_budget) for of_budget in some]
        seconds = [fmean(row.core_seconds for row in of_budget) for of_budget in some]
        prompts = [fmean(row.excess.prompt for row in of_budget) for of_budget in some]
        completions = [fmean(row.excess.completion for row in of_budget) for of_budget in some]
        wrong = [100 * (1 - fmean(row.truth["test"] for row in of_budget)) for of_budget in some]
        color = colormaps["viridis"](k / max(1, len(names) - 1) * 0.85)
        drawn = ((flops, prompts), (flops, completions), (flops, wrong), (seconds, wrong))
        for axis, (x, y) in zip(axes, drawn, strict=True):
            axis.plot(x, y, "o-", color=color, label=name)
    compute, missed = "FLOPs of training, 6 x parameters x tokens", "test prompts not completed truly, %"
    excess = "excess loss of {}, nats per token"
    xlabels = (compute, compute, compute, "core-seconds of training")
    ylabels = (excess.format("prompts"), excess.format("completions"), missed, missed)
    for axis, xlabel, ylabel in zip(axes, xlabels, ylabels, strict=True):
        axis.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
        for each in (axis.xaxis, axis.yaxis):
            each.set_major_locator(ticker.LogLocator(subs=(1, 3)))
            each.set_major_formatter(lambda value, _: f"{value:g}")
            each.set_minor_formatter(ticker.NullFormatter())
        plain(axis)
    axes[0].legend(frameon=False)
    seeds = sorted({row.seed for row in rows})
    figure.suptitle(f"{title}, {'one seed' if len(seeds) == 1 else f'{len(seeds)} seeds'}")
    save(figure, path)


SHADES = [
    "#1b998b",
    "#cfd6da",
    "#46555f",
    "#9fb0ba",
    "#4d6cfa",
    "#f2c14e",
    "#e07a3f",
    "#c44536",
    "#772e25",
    "#7d5ba6",
    "#111111",
]  # of verdicts


def draw_environment(id: str, measured: Mapping[str, Any], words: Mapping[str, str], path: Path, stamp: str) -> None:
    """Draw what the streams of an environment contain, in a row for each split.

    A row has answers, lengths of prompts and completions, tokens, and verdicts of programs with one token replaced.
    ``measured`` has a `cadmus_gym.reports.environments.Measured` for each split, and ``words`` the names of answers
    that are not numbers. ``stamp`` is stored in the file (see `cadmus_gym.reports.environments.stamp`).
    """
    from PIL import Image, PngImagePlugin

    figure = new_figure(15, 1.75 * len(measured) + 1.6)
    axes = figure.subplots(len(measured), 5, squeeze=False, width_ratios=[2, 1.6, 1.6, 4, 2])
    most = {name: max(getattr(m, f"{name}s").max() for m in measured.values()) for name in ("prompt", "completion")}
    names = np.flatnonzero(sum(m.tokens for m in measured.values()))
    reach = [reach_of(m, words) for m in measured.values()]
    for row, (split, m) in zip(axes, measured.items(), strict=True):
        draw_answers(row[0], m, words, max(reach))
        row[0].set_ylabel(split, fontsize=12)
        for ax, name in zip(row[1:3], most, strict=True):
            shares = np.bincount(getattr(m, f"{name}s")) / len(getattr(m, f"{name}s"))
            ax.stairs(shares, np.arange(shares.size + 1) - 0.5, color=BLUE, fill=True, alpha=0.8)
            ax.set_xlim(0, most[name] + 1)
        row[3].bar(np.arange(names.size), m.tokens[names] / m.tokens.sum(), color=BLUE, alpha=0.8)
        row[3].set_xlim(-0.7, names.size - 0.3)
        left = 0.0
        for verdict, shade in zip(Verdict, SHADES, strict=True):
            share = m.verdicts.sum(0)[verdict] / m.verdicts.sum()
            row[4].barh(0, share, left=left, color=shade, height=0.7, label=verdict.name)
            left += share
        row[4].set(xlim=(0, 1), ylim=(-0.6, 0.6), yticks=[])
        for ax in row:
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize=8)
        for ax in row[1:4]:
            percents(ax.yaxis)
        percents(row[4].xaxis)
        row[3].set_xticks([])
    titles = ("answer", "prompt, tokens", "completion, tokens", "tokens", "one token replaced")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    axes[-1][3].set_xticks(np.arange(names.size), [VOCABULARY[t] for t in names], rotation=90, family="monospace")
    axes[-1][3].tick_params(axis="x", labelsize=8 if names.size < 30 else 6)
    handles, labels = axes[0][4].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=len(labels), frameon=False, fontsize=8)
    figure.suptitle(f"{id}: its splits, one row each")
    figure.canvas.draw()
    about = PngImagePlugin.PngInfo()
    about.add_text("Digests", stamp)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # 256 colours: a third of the bytes
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=about)


def reach_of(m: Any, words: Mapping[str, str]) -> int:
    """Return the power of ten that bounds all answers, 0 if none is a number."""
    numbers = [abs(int(text)) for text in m.said if text.lstrip("-").isdecimal()]
    return int(np.ceil(np.log10(1 + max(numbers)))) if numbers else 0


def draw_answers(ax: Any, m: Any, words: Mapping[str, str], reach: int) -> None:
    """Draw the shares of answers: a histogram of numbers with four bins per power of ten, or a bar for each word."""
    said = m.said
    total = sum(said.values())
    if reach == 0 and said.keys().isdisjoint(words.values()):  # programs: the most frequent ones
        shown = sorted(said, key=lambda text: -said[text])[:PROGRAMS_SHOWN][::-1]
        ax.barh([text.removesuffix(" end") for text in shown], [said[text] / total for text in shown], color=BLUE)
        percents(ax.xaxis)
        return
    percents(ax.yaxis)
    if reach == 0:
        shown = list(words.values())
        ax.bar(shown, [said.get(word, 0) / total for word in shown], 0.7, color=BLUE, alpha=0.8)
        ax.set_ylim(0, 1)
        return
    pairs = [(int(text), times) for text, times in said.items() if text.lstrip("-").isdecimal()]
    if not pairs:
        ax.text(0, 0.5, " or ".join(words.values()), ha="center", va="center", transform=ax.get_yaxis_transform())
    else:
        values, times = np.array(pairs, np.float64).T
        edges = np.arange(-4 * reach - 0.5, 4 * reach + 1) / 4  # of log10(1 + |answer|), with the answer's sign
        heights, _ = np.histogram(np.sign(values) * np.log10(1 + np.abs(values)), edges, weights=times)
        ax.stairs(heights / total, edges, color=BLUE, fill=True, alpha=0.8)
    powers = range(2, reach + 1, 1 + reach // 3)
    ticks = {0.0: "0"} | {float(np.log10(1 + 10.0**p)): f"$10^{{{p}}}$" for p in powers}
    ticks |= {-place: f"$-10^{{{p}}}$" for place, p in zip(list(ticks)[1:], powers, strict=True)}
    ax.set_xticks(list(ticks), list(ticks.values()))
