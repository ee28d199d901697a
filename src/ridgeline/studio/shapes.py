"""What the API answers, as types: they make the OpenAPI file, and the file is what the API is fuzzed with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

Number = float | None
State = Literal["running", "finished", "interrupted", "failed", "damaged"]


class Failure(BaseModel):
    """Why there is no answer, in one sentence; ``mend``: the command that helps, where there is one."""

    error: str
    mend: str | None = None


class StudioState(BaseModel):
    """What the studio is."""

    version: str
    root: str
    terrains: list[str]
    lessons: int
    demo_command: str


class Has(BaseModel):
    """Which folders a stage has."""

    samples: bool
    landscape: bool
    traces: bool


class StageSummary(BaseModel):
    """A stage in the list of runs. ``steps``: as planned; None where it depends on the data."""

    id: str
    name: str
    type: str
    state: Literal["running", "finished", "interrupted", "failed", "damaged", "waiting"]
    steps_done: int
    steps: int | None
    headline: str | None
    has: Has


class RunSummary(BaseModel):
    """A run in the list of runs; times in seconds since the epoch."""

    id: str
    name: str
    state: State
    problem: str | None
    started: Number
    updated: Number
    model: str | None
    seed: int | None
    kind: Literal["run", "world"]
    stages: list[StageSummary]


class RunDetails(RunSummary):
    """The run with its texts."""

    recipe: str | None
    environment: dict[str, Any] | None
    summary: dict[str, Any] | None
    events: list[dict[str, Any]]


class Curve(BaseModel):
    """Buckets: the last step, the mean, the lowest and the highest value of each."""

    step: list[int]
    mean: list[Number]
    low: list[Number]
    high: list[Number]


class SeriesAnswer(BaseModel):
    """Curves by name; ``steps_total``: rows of metrics.jsonl."""

    steps_total: int
    series: dict[str, Curve]


class OverPoint(BaseModel):
    """One evaluation: KL and both rewards with their intervals."""

    step: int
    kl: float
    sqrt_kl: float
    proxy: Number
    proxy_low: Number
    proxy_high: Number
    gold: Number
    gold_low: Number
    gold_high: Number


class Mark(BaseModel):
    """Upper bound of the KL of best-of-n, in nats."""

    n: int
    kl: float


class PeakMark(BaseModel):
    """Where gold is highest. ``fall``: by how much it fell since, with its interval."""

    step: int
    kl: float
    sqrt_kl: float
    gold: float
    fall: Number
    fall_low: Number
    fall_high: Number
    over_optimised: bool | None


class OverAnswer(BaseModel):
    """Gold and proxy against KL."""

    points: list[OverPoint]
    best_of_n: list[Mark]
    peak: PeakMark | None
    note: str
    gold_name: str | None
    proxy_name: str | None


class Alert(BaseModel):
    """Something to look at, and why."""

    step: int
    kind: str
    severity: Literal["warning", "critical"]
    text: str


class SampleStep(BaseModel):
    """One file of samples."""

    kind: str
    step: int
    samples: int
    has_trace: bool


class Completion(BaseModel):
    """One completion; ``kl`` in nats per completion."""

    index: int
    text: str
    length: int
    stop_reason: str
    rewards: dict[str, Number]
    advantage: Number
    kl: Number
    discarded: str | None


class Group(BaseModel):
    """The completions of one prompt."""

    prompt_id: str
    prompt: str
    completions: list[Completion]


class Groups(BaseModel):
    """One page of ``total`` groups."""

    total: int
    groups: list[Group]


class Token(BaseModel):
    """One token; log-probs in nats."""

    piece: str
    id: int
    generated: bool
    logp: Number
    ref_logp: Number
    old_logp: Number
    kl: Number
    advantage: Number
    ratio: Number
    value: Number
    clipped: bool | None


class Objective(BaseModel):
    """The objective's formulas as TeX by column, and its settings by axis."""

    name: str | None
    formulas: dict[str, str]
    settings: dict[str, Any]


class Tokens(BaseModel):
    """A completion token by token; ``missing``: why a column is empty."""

    tokens: list[Token]
    objective: Objective
    text: str
    missing: dict[str, str]


class ReferenceAnswer(BaseModel):
    """What the model said before training, and where that stands."""

    text: str | None
    where: str


class CompareRow(BaseModel):
    """One number of both; ``difference`` is b - a, ``interval`` its 95 % interval over prompts."""

    name: str
    a: Number
    b: Number
    difference: Number
    interval: tuple[float, float] | None


class ConfigRow(BaseModel):
    """A key of the recipe that differs."""

    key: str
    a: Any
    b: Any


class CompareAnswer(BaseModel):
    """Two stages side by side; ``names``: curves that both have."""

    names: list[str]
    table: list[CompareRow]
    config: list[ConfigRow]


class LessonSummary(BaseModel):
    """A lesson in the list."""

    number: int
    slug: str
    title: str
    summary: str
