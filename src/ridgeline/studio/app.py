"""The application: API, front end, and the guard in front of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from ridgeline.studio.assets import STATIC, Assets
from ridgeline.studio.routes import router
from ridgeline.studio.safe import Problem, sendable
from ridgeline.studio.security import Access, Guard
from ridgeline.studio.studio import Studio


def build(studio: Studio, access: Access, assets: Assets | None = None) -> ASGIApp:
    """The whole ASGI application; its life starts and ends the poller."""
    served = assets or Assets(STATIC, access.root_path)
    app = api(studio)

    @app.get("/{path:path}", include_in_schema=False)
    def files(path: str, request: Request) -> Response:
        if path == "api" or path.startswith("api/"):
            raise Problem(404, "The API has no such address.")
        return served.answer(path, "gzip" in request.headers.get("accept-encoding", ""))

    return Guard(app, access, served.script_hashes)


def api(studio: Studio) -> FastAPI:
    """The API alone."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        studio.poller.start()
        yield
        studio.close()

    app = FastAPI(
        title="Ridgeline studio",
        openapi_url="/api/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=life,
        redirect_slashes=False,
    )
    app.state.studio = studio
    app.include_router(router)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return app


def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _failure(error.status, error.sentence, error.mend)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = next(iter(error.errors()), {})
    where = ".".join(str(part) for part in first.get("loc", ())[1:])
    return _failure(422, f"{where}: {first.get('msg', 'is not valid')}." if where else "Not valid.")


def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = _failure(error.status_code, f"{error.detail}.")
    answer.headers.update(error.headers or {})
    return answer


def _failure(status: int, sentence: str, mend: str | None = None) -> Response:
    content = {"error": sentence} if mend is None else {"error": sentence, "mend": mend}
    return JSONResponse(sendable(content), status_code=status)
