"""What a step knew of every token of its samples, on disk beside them: one Parquet file per file of samples.

The log-probs of the sampler are in the samples. ``old_logp`` minus these is the log-ratio of learner and
sampler, ``old_logp`` minus ``ref_logp`` the k1 estimate of the KL. What the policy says during the step's own
updates is known inside the backward pass only and kept nowhere; in the first update it is ``old_logp``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from ridgeline.data.pieces import HALF, token_texts
from ridgeline.rollout.store import write_aside
from ridgeline.schema.errors import DataError

Numbers = npt.NDArray[np.float32]
PER_TOKEN = ("ref_logp", "old_logp", "advantage", "value", "entropy")
_REMEMBERED = 2**18
"""Pairs of tokens whose text is kept; some 30 MB."""
_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string()),
        pa.field("index", pa.int32()),
        pa.field("piece", pa.list_(pa.string())),
        *(pa.field(name, pa.list_(pa.float32())) for name in PER_TOKEN),
        pa.field("kept", pa.bool_()),
        pa.field("discarded", pa.string()),
    ]
)


@dataclass(frozen=True)
class Trace:
    """One completion of N tokens as the step saw it; None: the step did not compute it.

    piece: the text each token adds; joined they are the decoded completion, special tokens included.
    ref_logp: nats, under the reference. None where the completion was discarded before it was compared.
    old_logp: nats, under the learner's forward pass with the weights that sampled. None in a step of one
        update whose objective reads no old policy: there old and current policy are the same, the ratio is 1,
        and nothing is scored in advance.
    advantage: units of reward, what the token was reinforced with. None for pairs, which have none.
    value: the critic's V(s_t) before the token, units of reward. None without a critic.
    entropy: nats, of the learner's distribution the token is drawn from. None where ``old_logp`` is.
    discarded: why nothing was learned from it ("dead group", "tie", ...); None: it was kept.
    """

    prompt_id: str
    index: int
    piece: list[str]
    ref_logp: Numbers | None = None
    old_logp: Numbers | None = None
    advantage: Numbers | None = None
    value: Numbers | None = None
    entropy: Numbers | None = None
    discarded: str | None = None

    @property
    def kept(self) -> bool:
        return self.discarded is None


def write_traces(path: Path, traces: Sequence[Trace]) -> None:
    """Replace ``path`` by ``traces``; equal traces give equal bytes.

    Raises:
        RunError: the file cannot be written; what was there before is intact.
    """
    columns = {name: [getattr(trace, name) for trace in traces] for name in _SCHEMA.names}
    table = pa.Table.from_pydict(columns, schema=_SCHEMA)
    write_aside(path, lambda aside: pq.write_table(table, aside, compression="zstd"))


def read_traces(path: Path) -> list[Trace]:
    """What ``write_traces`` wrote, in its order.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    try:
        rows = pq.read_table(path, schema=_SCHEMA).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read ({error}); the samples beside it are whole.") from None
    return [_trace(row) for row in rows]


def _trace(row: Mapping[str, object]) -> Trace:
    values = {name: value for name, value in row.items() if name != "kept"}
    for name in PER_TOKEN:
        if values[name] is not None:
            values[name] = np.asarray(values[name], dtype=np.float32)
    return Trace(**values)  # type: ignore[arg-type] # the columns of _SCHEMA are the fields


class Pieces:
    """``token_texts`` that remembers pairs of tokens: completions of one run repeat them all the time."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._texts: dict[tuple[int, int], str] = {}

    def __call__(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text."""
        texts = [self._text(before, after) for before, after in pairwise([-1, *ids])]
        # A character that is spread over several tokens cannot be told from a pair of them.
        return token_texts(self.tokenizer, ids) if any(HALF in text for text in texts) else texts

    def _text(self, before: int, after: int) -> str:
        """What ``after`` adds behind ``before`` (-1: at the start)."""
        known = self._texts.get((before, after))
        if known is None:
            if len(self._texts) >= _REMEMBERED:
                self._texts.clear()
            pair = [after] if before < 0 else [before, after]
            known = self._texts[before, after] = token_texts(self.tokenizer, pair)[-1]
        return known
