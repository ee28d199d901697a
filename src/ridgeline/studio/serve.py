"""Starting and ending the server: a free port, one address to click, a clean end."""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from ridgeline.schema.errors import RunError, UsageError
from ridgeline.studio.app import build
from ridgeline.studio.security import Access
from ridgeline.studio.studio import Studio

PORT = 7421
TRIES = 50
MESSAGE_LIMIT = 4 << 20
"""Bytes of one WebSocket message: a painted height map fits."""
START_LIMIT = 30.0


@dataclass(frozen=True)
class Options:
    """How to serve. port: None takes 7421 or the next free one. names: further host names that are let in."""

    runs: Path
    host: str = "127.0.0.1"
    port: int | None = None
    browser: bool = True
    auth: bool = True
    root_path: str = ""
    names: tuple[str, ...] = field(default=())


class Server(uvicorn.Server):
    """Ends its event streams first: they would keep it waiting for ever."""

    studio: Studio

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # The signal is not kept: uvicorn would raise it again at the end, into the event loop.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.end()

    def end(self) -> None:
        """Finish what is under way and stop."""
        self.studio.log.close()
        self.should_exit = True


class Handle:
    """A running studio."""

    def __init__(self, server: Server, bound: socket.socket, url: str) -> None:
        self.url = url
        """With the token; whoever has it has access."""
        self._server = server
        self._socket = bound
        self._thread = threading.Thread(target=self._serve, name="ridgeline-studio", daemon=True)

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> Handle:
        """Serve from a thread; returns once requests are answered.

        Raises:
            RunError: the server did not come up.
        """
        self._thread.start()
        limit = time.monotonic() + START_LIMIT
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > limit:
                raise RunError("the studio did not start; try another --port, or see the message above.")
            time.sleep(0.01)
        return self

    def close(self) -> None:
        """End the server; the port is free afterwards."""
        self._server.end()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def _repr_html_(self) -> str:
        return f'<a href="{self.url}" target="_blank" rel="noopener">Ridgeline studio</a>'


def start(options: Options, *, block: bool, announce: Callable[[str], None] = print) -> Handle:
    """Serve; with ``block`` until Ctrl-C, in which case the handle returned is closed.

    Raises:
        UsageError: a port in use, a host that is no address here, ``auth=False`` on a host others can reach.
    """
    root = _root_path(options.root_path)
    if not options.auth and not is_loopback(options.host):
        raise UsageError(
            f"--no-auth would let in everybody who can reach {options.host}; use it with --host 127.0.0.1."
        )
    bound = bind(options.host, options.port)
    port = bound.getsockname()[1]
    access = Access(
        secrets.token_urlsafe(32) if options.auth else None,
        names=_names(options),
        root_path=root,
        cookie=f"ridgeline_studio_{port}",
    )
    studio = Studio(options.runs)
    server = Server(_config(build(studio, access), options.host))
    server.studio = studio
    query = f"?token={access.token}" if access.token else ""
    handle = Handle(server, bound, f"http://{_shown(options.host)}:{port}{root}/{query}")
    if block:
        return _block(handle, server, bound, options, announce)
    handle.start()
    if options.browser and may_open_browser():
        webbrowser.open(handle.url)
    return handle


def _block(
    handle: Handle, server: Server, bound: socket.socket, options: Options, announce: Callable[[str], None]
) -> Handle:
    announce(handle.url)
    if options.browser and may_open_browser():
        # The socket listens already, so the browser waits for the first answer instead of failing.
        threading.Thread(target=webbrowser.open, args=(handle.url,), daemon=True).start()
    try:
        server.run(sockets=[bound])
    finally:
        bound.close()
    return handle


def bind(host: str, port: int | None) -> socket.socket:
    """A listening socket. Raises UsageError where the port is taken or the host is no address here."""
    ports = range(PORT, PORT + TRIES) if port is None else (port,)
    for number in ports:
        try:
            return _listen(host, number)
        except socket.gaierror:
            raise UsageError(
                f"--host {host} is no address; use 127.0.0.1, or one of this machine's."
            ) from None
        except PermissionError:
            raise UsageError(
                f"port {number} needs rights that you do not have; choose one above 1023."
            ) from None
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"cannot listen on {host}:{number}: {error.strerror}.") from None
    if port is not None:
        raise UsageError(f"port {port} is in use; choose another --port, or leave it out to take a free one.")
    raise UsageError(f"ports {PORT} to {PORT + TRIES - 1} are all in use; give a free one with --port 0.")


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        # Lets a new studio take the port of one that has just ended; it shares no port that is in use.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except OSError:
        bound.close()
        raise
    return bound


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_open_browser() -> bool:
    """Whether there is a screen at which somebody sits."""
    if "SSH_CONNECTION" in os.environ or "SSH_TTY" in os.environ:
        return False
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _names(options: Options) -> frozenset[str]:
    names = {"localhost", *(name.lower() for name in options.names)}
    if not is_loopback(options.host):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower(), options.host.lower()}
    return frozenset(names)


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1" if host == "0.0.0.0" else "[::1]"
    return f"[{host}]" if ":" in host else host


def _root_path(given: str) -> str:
    trimmed = given.strip("/")
    if not trimmed:
        return ""
    if not all(part and all(c.isalnum() or c in "-._~" for c in part) for part in trimmed.split("/")):
        raise UsageError(f"--root-path {given} is no path of an address; give one such as /user/me/studio.")
    return f"/{trimmed}"


def _config(app: object, host: str) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type] # an ASGI application
        host=host,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        ws_max_size=MESSAGE_LIMIT,
        timeout_graceful_shutdown=2,
    )
