"""One completion token by token: what the policy, the reference and the objective say about each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ridgeline.studio.formulas import Formulas, formulas_of
from ridgeline.studio.prompts import pieces
from ridgeline.studio.safe import Problem, finite, sendable
from ridgeline.studio.sample_files import SampleFile, column
from ridgeline.studio.samples import Samples
from ridgeline.studio.stage_reader import StageReader

SAMPLE_COLUMNS = ("prompt_id", "index", "text", "completion_ids", "logprobs", "generated")
TRACE_COLUMNS = ("prompt_id", "index", "piece", "ref_logp", "old_logp", "advantage", "value")
NO_TRACE = (
    "No trace was written beside these samples: the run is older than traces, or it records none for these."
)
WHY_MISSING: Mapping[str, str] = {
    "ref_logp": "This completion was discarded before it was compared with the reference.",
    "old_logp": "The step made one update with the weights that sampled, so nothing was scored in advance: "
    "the ratio is 1.",
    "advantage": "The objective compares pairs, or the completion was discarded; neither has an advantage.",
    "value": "The stage has no critic.",
}


def tokens_of(
    samples: Samples,
    stage: StageReader,
    file: SampleFile,
    model: str | None,
    prompt_id: str,
    index: int,
) -> dict[str, Any]:
    """See ``shapes.Tokens``. Raises Problem 404 where the step has no such completion."""
    table = samples.tables.read(stage.root, file.path, SAMPLE_COLUMNS)
    row = _find(column(table, "prompt_id"), column(table, "index"), prompt_id, index)
    if row is None:
        raise Problem(404, "This step has no such completion.")
    sample = {name: table.column(name)[row].as_py() for name in table.column_names}
    ids = [value for value in sample.get("completion_ids") or [] if isinstance(value, int)]
    trace = _trace(samples, stage, file, prompt_id, index)
    columns = {
        "logp": _column(sample.get("logprobs"), len(ids)),
        **{name: _column((trace or {}).get(name), len(ids)) for name in WHY_MISSING},
    }
    formulas = formulas_of(stage.type, stage.config)
    texts, no_text = _pieces(samples, stage, trace, ids, model)
    generated = sample.get("generated") or []
    tokens = [
        _token(
            texts[place],
            ids[place],
            bool(generated[place]) if place < len(generated) else True,
            {name: values[place] if values is not None else None for name, values in columns.items()},
            formulas,
        )
        for place in range(len(ids))
    ]
    missing = {name: NO_TRACE if trace is None else why for name, why in WHY_MISSING.items()}
    missing = {name: why for name, why in missing.items() if columns[name] is None}
    if columns["logp"] is None:
        missing["logp"] = "The sampler recorded no log-probs."
    if no_text:
        missing["piece"] = no_text
    missing |= _derived(columns, missing, formulas)
    return {
        "tokens": tokens,
        "objective": {"name": formulas.name, "formulas": formulas.tex, "settings": formulas.settings},
        "text": str(sendable(str(sample.get("text") or ""))),
        "missing": missing,
    }


def _token(
    piece: str, id_: int, generated: bool, known: dict[str, float | None], formulas: Formulas
) -> dict[str, Any]:
    logp, ref_logp, old_logp = known["logp"], known["ref_logp"], known["old_logp"]
    learner = logp if old_logp is None else old_logp
    kl = None if learner is None or ref_logp is None else finite(learner - ref_logp)
    ratio = None
    if logp is not None and old_logp is not None:
        ratio = finite(math.exp(min(old_logp - logp, 700.0)))
    clipped = None if ratio is None or formulas.bounds is None else not _within(ratio, formulas.bounds)
    return {"piece": piece, "id": id_, "generated": generated, **known} | {
        "kl": kl,
        "ratio": ratio,
        "clipped": clipped,
    }


def _within(ratio: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= ratio <= bounds[1]


def _derived(columns: Mapping[str, Any], missing: Mapping[str, str], formulas: Formulas) -> dict[str, str]:
    reasons = {}
    if columns["ref_logp"] is None:
        reasons["kl"] = missing["ref_logp"]
    if columns["old_logp"] is None:
        reasons["ratio"] = reasons["clipped"] = missing["old_logp"]
    elif formulas.bounds is None:
        reasons["clipped"] = "The objective does not bound the ratio of learner and sampler."
    return reasons


def _find(prompts: list[Any], indices: list[Any], prompt_id: str, index: int) -> int | None:
    for row, (prompt, number) in enumerate(zip(prompts, indices, strict=True)):
        if number == index and prompt == prompt_id:
            return row
    return None


def _trace(
    samples: Samples, stage: StageReader, file: SampleFile, prompt_id: str, index: int
) -> dict[str, Any] | None:
    try:
        table = samples.tables.read(stage.root, file.trace, TRACE_COLUMNS)
    except Problem:
        return None
    row = _find(column(table, "prompt_id"), column(table, "index"), prompt_id, index)
    return None if row is None else {name: table.column(name)[row].as_py() for name in table.column_names}


def _column(values: Any, length: int) -> list[float | None] | None:
    """A number per token; None where there are none, or not one for each."""
    if not isinstance(values, list) or len(values) != length or not length:
        return None
    return [finite(value) for value in values]


def _pieces(
    samples: Samples, stage: StageReader, trace: dict[str, Any] | None, ids: list[int], model: str | None
) -> tuple[list[str], str | None]:
    """The text of each token, and why it is not the real one where it is not."""
    told = (trace or {}).get("piece")
    if isinstance(told, list) and len(told) == len(ids):
        return [str(sendable(str(piece))) for piece in told], None
    tokenizer = samples.tokenizers.of(stage, model)
    texts = pieces(tokenizer, ids) if tokenizer is not None else None
    if texts is not None and len(texts) == len(ids):
        return texts, None
    return [
        f"[{id_}]" for id_ in ids
    ], "No tokenizer was found in the run folder, so tokens show their number."
