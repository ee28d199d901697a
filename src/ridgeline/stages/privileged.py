"""The student as its own teacher: what the teacher reads in place of the student's prompt.

The last user turn is rewritten to hold a hint: a column of the prompt's row (OPSD), or a random completion of
the same group that counts as a success (SDPO). Never the completion itself, which the teacher could copy: a
group whose only success is that completion has nothing to show it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ridgeline.data.chat import encode_prompts
from ridgeline.data.formats import PromptRow
from ridgeline.models.batch import Unit, completion_row
from ridgeline.models.distributions import teachers_row
from ridgeline.rollout.draws import text_key
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Message, Sample
from ridgeline.schema.stages.distill import Privileged


@dataclass(frozen=True)
class PrivilegedView:
    """Makes units of a student's rows and its teacher's.

    ``positions``: how many tokens the model can read; None: no limit of its own.
    """

    config: Privileged
    prompts: Mapping[str, PromptRow]
    tokenizer: PreTrainedTokenizerBase
    seed: int
    positions: int | None

    def unit(self, group: Sequence[Sample], step: int) -> Unit:
        """The completions of one prompt that a hint exists for, then the same as the teacher reads them."""
        hints = [self.hint(group, place, step) for place in range(len(group))]
        shown = [(sample, hint) for sample, hint in zip(group, hints, strict=True) if hint is not None]
        prompts = encode_prompts(self.tokenizer, [self._messages(sample, hint) for sample, hint in shown])
        students = [completion_row(sample.prompt_ids, sample.completion_ids) for sample, _ in shown]
        teachers = [
            teachers_row(prompt, sample.completion_ids)
            for prompt, (sample, _) in zip(prompts, shown, strict=True)
        ]
        longest = max((len(row) for row in teachers), default=0)
        if self.positions is not None and longest > self.positions:
            raise DataError(
                f"prompt '{group[0].prompt_id}' has {longest} tokens with its hint and a completion, more "
                f"than the model's {self.positions} positions; shorten hints or sampling.max_new_tokens."
            )
        return [*students, *teachers]

    def hint(self, group: Sequence[Sample], place: int, step: int) -> str | None:
        """What the teacher is shown for the completion at ``place``; None: nothing to show."""
        sample = group[place]
        if self.config.hint is not None:
            value = self.prompts[sample.prompt_id].row.get(self.config.hint)
            if value in (None, ""):
                where = self.prompts[sample.prompt_id].where or f"prompt '{sample.prompt_id}'"
                raise DataError(f"{where}: the column '{self.config.hint}', which holds the hint, is empty.")
            return str(value)
        successes = [
            other
            for index, other in enumerate(group)
            if index != place
            and (total := other.rewards["total"]) is not None
            and total >= self.config.success
        ]
        if not successes:
            return None
        draw = text_key(f"{self.seed}/demonstration/{step}/{sample.prompt_id}/{sample.index}")
        return successes[draw % len(successes)].text

    def _messages(self, sample: Sample, hint: str) -> list[Message]:
        *earlier, last = self.prompts[sample.prompt_id].messages
        parts = {"{prompt}": last.content, "{hint}": hint}
        text = re.sub(r"\{prompt\}|\{hint\}", lambda found: parts[found.group()], self.config.text)
        return [*earlier, Message(last.role, text)]
