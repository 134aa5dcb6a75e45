"""What TensorBoard shows of an evaluation, under the same tags whichever script trains.

    truth/NAME       share of completions that are true
    loopholes/NAME   share of completions that are true for the wrong reason, see `cadmus_gym.find_loopholes`
    completions      a table, as text: prompts of the test split, greedily completed and judged

NAME is the split, of a mixture "ID SPLIT", and ends with " sampled" where completions were drawn at temperature 1.
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

SHOWN = 8  # completions in the table, about, over all specs


def add_rates(writer: SummaryWriter, name: str, truth: float, loopholes: float, step: int) -> None:
    """Write the rates that an evaluation found."""
    writer.add_scalar(f"truth/{name}", truth, step)
    writer.add_scalar(f"loopholes/{name}", loopholes, step)


def add_completions(writer: SummaryWriter, model: Transformer, specs: Sequence[Spec], step: int) -> None:
    """Let a model complete some prompts of its specs, of test where that is a split, and write them as a table."""
    rows = []
    for spec in specs:
        split = "test" if "test" in spec.splits else "train"
        done = complete_under(model, spec, *prompts_of(spec, split, max(1, SHOWN // len(specs))))
        verdicts, _ = run_batch(done.programs)
        for program, ends, verdict in zip(done.programs, done.prompt_lengths, verdicts, strict=True):
            prompt, completion = disassemble(program[:ends]), disassemble(program[ends:][program[ends:] > 0])
            rows.append([spec.id, f"`{prompt}`", f"`{completion}`", Verdict(verdict).name])
    writer.add_text("completions", markdown(["environment", "prompt", "completion", "verdict"], rows), step)
