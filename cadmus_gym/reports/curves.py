"""What TensorBoard shows of an evaluation, with the same tags for every training script.

    truth/NAME       share of completions that are true
    loopholes/NAME   share of completions that are true for the wrong reason, see `cadmus_gym.find_loopholes`
    completions      a text table of prompts of the test split, greedily completed and judged

NAME is the split, or "ID SPLIT" for a mixture. It ends with " sampled" if completions were drawn at temperature 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.tensorboard import SummaryWriter

from cadmus_gym.evaluation.truth import complete_under, prompts_of
from cadmus_gym.language.machine import run_batch
from cadmus_gym.language.notation import disassemble
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.reports.markdown import markdown
from cadmus_gym.streams.spec import Spec
from cadmus_gym.transformer.model import Transformer

SHOWN = 8  # completions in the table, approximately, over all specs


def add_rates(writer: SummaryWriter, name: str, truth: float, loopholes: float, step: int) -> None:
    """Write the rates of an evaluation; both are shares between 0 and 1."""
    writer.add_scalar(f"truth/{name}", truth, step)
    writer.add_scalar(f"loopholes/{name}", loopholes, step)


def add_completions(writer: SummaryWriter, model: Transformer, specs: Sequence[Spec], step: int) -> None:
    """Write a table of a model's completions of some prompts of its specs, from test if there is such a split."""
    rows = []
    for spec in specs:
        split = "test" if "test" in spec.splits else "train"
        done = complete_under(model, spec, *prompts_of(spec, split, max(1, SHOWN // len(specs))))
        verdicts, _ = run_batch(done.programs)
        for program, ends, verdict in zip(done.programs, done.prompt_lengths, verdicts, strict=True):
            prompt, completion = disassemble(program[:ends]), disassemble(program[ends:][program[ends:] > 0])
            rows.append([spec.id, f"`{prompt}`", f"`{completion}`", Verdict(verdict).name])
    writer.add_text("completions", markdown(["environment", "prompt", "completion", "verdict"], rows), step)
