"""The addresses of the API. Every answer has a type, every failure is 4xx with one sentence."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Path, Query, Request, WebSocket
from fastapi.responses import Response, StreamingResponse

from ridgeline.studio import lessons_api, shapes
from ridgeline.studio.alerts import Curves, alerts
from ridgeline.studio.comparing import Side, compare
from ridgeline.studio.landscapes import landscape_file
from ridgeline.studio.lines import HIGH, LOW
from ridgeline.studio.over import over, roles
from ridgeline.studio.run_reader import RunReader
from ridgeline.studio.safe import Problem, finite
from ridgeline.studio.sample_files import sample_file, sample_files
from ridgeline.studio.series import bucketed
from ridgeline.studio.studio import Studio
from ridgeline.studio.tables import Table
from ridgeline.studio.tokens import tokens_of

STREAMS = 32
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": shapes.Failure, "description": text}
    for status, text in {
        400: "The request is malformed.",
        401: "No token.",
        403: "Asked from somewhere else.",
        404: "There is no such thing.",
        405: "Not this method.",
        413: "Too large.",
        422: "The request makes no sense, or a file is damaged.",
        429: "Too many at once.",
    }.items()
}
BINARY: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "description": "A container of blocks.",
    }
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events."}
}
Id = Annotated[str, Path(min_length=1, max_length=400)]
Kind = Annotated[str, Query(min_length=1, max_length=200)]
StepNumber = Annotated[int, Query(ge=0, le=10**12)]
Count = Annotated[int, Query(ge=0, le=10**9)]
Bound = Annotated[int | None, Query(ge=-(2**53), le=2**53)]
Text = Annotated[str, Query(max_length=400)]
LessonNumber = Annotated[int, Path(ge=1, le=10**6)]
router = APIRouter(prefix="/api", responses=FAILURES)
STAGE = "/runs/{run}/stages/{stage}"


def studio_of(request: Request) -> Studio:
    """The studio that the application serves."""
    found: Studio = request.app.state.studio
    return found


def _find(request: Request, run: str, stage: str) -> Side:
    index = studio_of(request).index
    return index.run(run), index.stage(run, stage)


def _model(run: RunReader) -> str | None:
    model = run.recipe.get("model")
    return model if isinstance(model, str) else None


@router.get("/state", response_model=shapes.StudioState)
def state(request: Request) -> Any:
    """What the studio is, and what it can show without any run."""
    return studio_of(request).state()


@router.get("/runs", response_model=list[shapes.RunSummary])
def runs(request: Request) -> Any:
    """All runs."""
    return [run.summary() for run in studio_of(request).index.all()]


@router.get("/runs/{run}", response_model=shapes.RunDetails)
def run_details(request: Request, run: Id) -> Any:
    """One run with its recipe, environment, summary and events."""
    return studio_of(request).index.run(run).details()


@router.get(STAGE + "/series", response_model=shapes.SeriesAnswer)
def series(
    request: Request,
    run: Id,
    stage: Id,
    names: Annotated[list[str], Query(max_length=400)] = [],  # noqa: B006 (FastAPI copies it)
    points: Annotated[int, Query(ge=2, le=20_000)] = 800,
    start: Annotated[int | None, Query(alias="from", ge=-(2**53), le=2**53)] = None,
    end: Annotated[int | None, Query(alias="to", ge=-(2**53), le=2**53)] = None,
) -> Any:
    """Curves by name (none: all of them), in at most ``points`` buckets."""
    _, found = _find(request, run, stage)
    tables = found.tables()
    studio_of(request).index.note_use(run, found)
    wanted = set(names)
    curves = {}
    with found.lock:
        for table in tables.values():
            for name in table.names():
                if not name.endswith((LOW, HIGH)) and (not wanted or name in wanted):
                    curves[name] = _curve(table, name, points, start, end)
        return {"steps_total": tables["metrics"].steps_seen, "series": curves}


def _curve(table: Table, name: str, points: int, start: int | None, end: int | None) -> dict[str, Any]:
    column = table.column(name)
    assert column is not None
    known = ~np.isnan(column)
    ends = []
    for suffix in (LOW, HIGH):
        bound = table.column(name + suffix)
        ends.append(column if bound is None else np.where(np.isnan(bound), column, bound))
    found = bucketed(
        table.steps()[known],
        column[known],
        points,
        low=ends[0][known],
        high=ends[1][known],
        start=start,
        end=end,
    )
    return {
        "step": found.step.tolist(),
        "mean": [finite(value) for value in found.mean.tolist()],
        "low": [finite(value) for value in found.low.tolist()],
        "high": [finite(value) for value in found.high.tolist()],
    }


@router.get("/stream", response_class=StreamingResponse, responses=STREAM)
async def stream(
    request: Request,
    runs: Annotated[str | None, Query(max_length=20_000)] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """What is new, as it happens; ``runs``: ids with commas between them, whose points are wanted."""
    log = studio_of(request).log
    if log.listeners >= STREAMS:
        raise Problem(429, f"{STREAMS} pages listen already; close one of them.")
    wanted = None if runs is None else frozenset(runs.split(","))
    return StreamingResponse(
        log.follow(last_event_id, wanted),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get(STAGE + "/over", response_model=shapes.OverAnswer)
def over_optimisation(request: Request, run: Id, stage: Id) -> Any:
    """Gold and proxy against KL."""
    found = _find(request, run, stage)
    return over(studio_of(request).samples, *found)


@router.get(STAGE + "/alerts", response_model=list[shapes.Alert])
def stage_alerts(request: Request, run: Id, stage: Id) -> Any:
    """What deserves a look."""
    reader, found = _find(request, run, stage)
    gold, proxy, moves = roles(reader, found)
    tables = found.tables()
    with found.lock:
        curves = Curves(tables["metrics"], tables["evaluations"], gold, None if moves else proxy)
        return [alert.as_dict() for alert in alerts(curves)]


@router.get(STAGE + "/steps", response_model=list[shapes.SampleStep])
def steps(request: Request, run: Id, stage: Id) -> Any:
    """Which samples the stage stored."""
    return studio_of(request).samples.steps(_find(request, run, stage)[1])


@router.get(STAGE + "/groups", response_model=shapes.Groups)
def groups(
    request: Request,
    run: Id,
    stage: Id,
    step: StepNumber,
    kind: Kind = "step",
    offset: Count = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    search: Text = "",
    sort: Annotated[str, Query(max_length=40)] = "",
) -> Any:
    """Completions by prompt: one page."""
    reader, found = _find(request, run, stage)
    file = sample_file(found, kind, step)
    page = slice(offset, offset + limit)
    return studio_of(request).samples.groups(found, file, _model(reader), search, sort, page)


@router.get(STAGE + "/tokens", response_model=shapes.Tokens)
def tokens(
    request: Request,
    run: Id,
    stage: Id,
    step: StepNumber,
    prompt_id: Text,
    index: Annotated[int, Query(ge=0, le=2**31 - 1)],
    kind: Kind = "step",
) -> Any:
    """One completion token by token."""
    reader, found = _find(request, run, stage)
    file = sample_file(found, kind, step)
    return tokens_of(studio_of(request).samples, found, file, _model(reader), prompt_id, index)


@router.get(STAGE + "/reference", response_model=shapes.ReferenceAnswer)
def reference(request: Request, run: Id, stage: Id, prompt_id: Text) -> Any:
    """The first completion of a prompt before any training: what to compare later ones with."""
    _, found = _find(request, run, stage)
    samples = studio_of(request).samples
    return samples.before_training(found, sample_files(found), prompt_id)


@router.get("/compare", response_model=shapes.CompareAnswer)
def comparison(request: Request, a: Text, b: Text) -> Any:
    """Two stages side by side, each as ``run/stage``."""
    sides = []
    for given in (a, b):
        run, _, stage = given.partition("/")
        sides.append(_find(request, run, stage))
    return compare(studio_of(request).samples, *sides)


@router.get(
    STAGE + "/landscape/{file:path}",
    response_class=Response,
    responses={200: BINARY[200] | {"content": BINARY[200]["content"] | {"application/json": {}}}},
)
def landscape(request: Request, run: Id, stage: Id, file: Annotated[str, Path(max_length=100)]) -> Response:
    """A file of a recorded landscape."""
    reader, found = _find(request, run, stage)
    content, kind = landscape_file(found, file, str(studio_of(request).index.given / reader.path.name))
    return Response(content, media_type=kind)


@router.get("/terrains/{name}", response_model=dict[str, Any])
def terrain(name: Annotated[str, Path(max_length=100)]) -> Any:
    """A terrain of the library."""
    return lessons_api.terrain(name)


@router.post(
    "/terrains/parse",
    response_model=dict[str, Any],
    openapi_extra={
        "requestBody": {"required": True, "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
)
async def parse_terrain(request: Request) -> Any:
    """The terrain of a TOML text."""
    from starlette.concurrency import run_in_threadpool

    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > lessons_api.TERRAIN_LIMIT:
            raise Problem(413, f"The terrain is larger than {lessons_api.TERRAIN_LIMIT >> 20} MB.")
    return await run_in_threadpool(lessons_api.parse_terrain, content)


@router.get("/lessons", response_model=list[shapes.LessonSummary])
def lessons() -> Any:
    """The lessons."""
    return lessons_api.lesson_summaries()


@router.get("/lessons/{number}", response_model=dict[str, Any])
def lesson(number: LessonNumber) -> Any:
    """A whole lesson."""
    return lessons_api.lesson(number)


@router.get("/lessons/{number}/frames", response_class=Response, responses=BINARY)
def lesson_frames(number: LessonNumber) -> Response:
    """The recorded frames of a lesson."""
    return Response(lessons_api.lesson_frames(number), media_type="application/octet-stream")


@router.websocket("/world")
async def world(socket: WebSocket) -> None:
    """The live world."""
    studio: Studio = socket.app.state.studio
    await studio.worlds.serve(socket)
