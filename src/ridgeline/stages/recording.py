"""What a stage knew of its samples, saved beside them under the same name: traces and features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ridgeline.rollout.features import write_features
from ridgeline.rollout.traces import PER_TOKEN, Pieces, Trace, write_traces
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import StageFolder
from ridgeline.training.engine import RowScores

Key = tuple[str, int]
"""Prompt and number of a sample: unique within a file of samples."""
STATES = "states"


def key_of(sample: Sample) -> Key:
    """The name of ``sample`` within its file."""
    return sample.prompt_id, sample.index


@dataclass
class Recorder:
    """Writes into one stage's folder; nothing is computed for it but the text of tokens."""

    folder: StageFolder
    pieces: Pieces

    def save(
        self,
        name: str,
        samples: Sequence[Sample],
        known: Mapping[Key, RowScores],
        discarded: Mapping[Key, str] | None = None,
    ) -> None:
        """``traces/NAME.parquet``, a row per sample, and ``features/NAME.npz`` where there are states.

        ``known`` holds the columns of a trace and ``states``, as far as there are any; ``discarded`` the
        reasons of those that taught nothing.
        """
        reasons = discarded or {}
        traces = []
        for sample in samples:
            scores = known.get(key_of(sample), {})
            traces.append(
                Trace(
                    sample.prompt_id,
                    sample.index,
                    self.pieces(sample.completion_ids),
                    **{column: scores[column] for column in PER_TOKEN if column in scores},
                    discarded=reasons.get(key_of(sample)),
                )
            )
        write_traces(self.folder.traces / f"{name}.parquet", traces)
        seen = [key for key in map(key_of, samples) if STATES in known.get(key, {})]
        if seen:
            states = [known[key][STATES] for key in seen]
            write_features(self.folder.features / f"{name}.npz", seen, states)
