"""Who may ask: a token, a cookie that stands for it, this server's names, and where a page comes from."""

from __future__ import annotations

import hashlib
import hmac
import html
import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGIN = "/login"
LOGIN_LIMIT = 4096
SAFE = ("GET", "HEAD")
NO_ACCESS = "This address needs the token that ridgeline studio printed when it started."


@dataclass
class Access:
    """What is let in. ``names``: host names by which the server may be called, besides IP addresses."""

    token: str | None
    names: frozenset[str] = frozenset({"localhost"})
    root_path: str = ""
    cookie: str = "ridgeline_studio"
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """The value of the cookie: another secret than the token, so that neither gives the other away."""

    def knows_token(self, given: str | None) -> bool:
        return self.token is not None and given is not None and _same(given, self.token)

    def is_open_to(self, headers: Headers) -> bool:
        """Whether the headers carry the token or the cookie."""
        if self.token is None:
            return True
        return self.is_bearer(headers) or self._has_cookie(headers)

    def is_bearer(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.knows_token(given.strip())

    def is_called_by_name(self, headers: Headers) -> bool:
        """Whether ``Host`` is an IP address or a name of this server.

        A page of another site that makes its own name point here (DNS rebinding) sends that name.
        """
        hosts = headers.getlist("host")
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        return name is not None and (name in self.names or _is_address(name))

    def is_same_origin(self, headers: Headers) -> bool:
        """Whether a page of this server asks; a client without pages says so by sending the token itself."""
        origin = headers.get("origin")
        if origin is None:
            return self.is_bearer(headers)
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and parts.netloc.lower() == headers.get("host", "").lower()

    def _has_cookie(self, headers: Headers) -> bool:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return found is not None and _same(found.value, self.session)


class Guard:
    """ASGI middleware in front of everything: host, origin, access, and the headers of every answer."""

    def __init__(self, app: ASGIApp, access: Access, script_hashes: Callable[[], tuple[str, ...]]) -> None:
        self.app = app
        self.access = access
        self.script_hashes = script_hashes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        scope = self._without_root(scope)
        headers = Headers(scope=scope)
        if scope["type"] == "websocket":
            if self._refusal(headers, "WEBSOCKET") is not None or not self.access.is_open_to(headers):
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        secured = self._secured(send)
        answer = await self._answer(scope, receive, headers)
        await (self.app if answer is None else answer)(scope, receive, secured)

    async def _answer(self, scope: Scope, receive: Receive, headers: Headers) -> Response | None:
        """What is answered here; None lets the request through."""
        refusal = self._refusal(headers, scope["method"])
        if refusal is not None:
            return JSONResponse({"error": refusal}, status_code=403)
        if scope["path"] == LOGIN and scope["method"] == "POST":
            return await self._log_in(Request(scope, receive))
        given = _token_in(scope)
        is_page = scope["method"] in SAFE and not scope["path"].startswith("/api")
        if given is not None and is_page and self.access.knows_token(given):
            return self._with_cookie(_without_token(scope, self.access.root_path))
        if self.access.is_open_to(headers):
            return None
        if is_page:
            return self._login_page(401)
        challenge = {"WWW-Authenticate": "Bearer"}
        return JSONResponse({"error": NO_ACCESS}, status_code=401, headers=challenge)

    def _refusal(self, headers: Headers, method: str) -> str | None:
        if not self.access.is_called_by_name(headers):
            return "This server is not known by that host name; see --allow-host."
        # The login form carries the token itself, and a browser names the origin of every form.
        if method not in SAFE and not self.access.is_same_origin(headers):
            return "A page of another site may not ask this."
        return None

    async def _log_in(self, request: Request) -> Response:
        content = b""
        async for chunk in request.stream():
            content += chunk
            if len(content) > LOGIN_LIMIT:
                return self._login_page(413)
        fields = dict(parse_qsl(content.decode("utf-8", errors="replace")))
        if not self.access.knows_token(fields.get("token", "").strip()):
            return self._login_page(401)
        return self._with_cookie(f"{self.access.root_path}/")

    def _with_cookie(self, address: str) -> Response:
        answer = RedirectResponse(address, status_code=303)
        path = f"{self.access.root_path}/"
        answer.set_cookie(
            self.access.cookie, self.access.session, httponly=True, samesite="strict", path=path
        )
        return answer

    def _login_page(self, status: int) -> Response:
        return HTMLResponse(
            page(
                "Ridgeline studio",
                f"<p>{html.escape(NO_ACCESS)}</p>"
                f'<form method="post" action="{html.escape(self.access.root_path)}{LOGIN}">'
                '<label for="token">Token</label> '
                '<input id="token" name="token" type="password" autocomplete="off" required autofocus> '
                "<button>Open</button></form>",
            ),
            status_code=status,
        )

    def _without_root(self, scope: Scope) -> Scope:
        """Some proxies strip the prefix, others do not; both are understood."""
        root, path = self.access.root_path, scope["path"]
        if root and (path == root or path.startswith(f"{root}/")):
            return {**scope, "path": path[len(root) :] or "/", "raw_path": None}
        return scope

    def _secured(self, send: Send) -> Send:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self._policy()
                headers["X-Content-Type-Options"] = "nosniff"
                # With "no-referrer" a browser would name the origin of the login form "null".
                headers["Referrer-Policy"] = "same-origin"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        return secured

    def _policy(self) -> str:
        scripts = "".join(f" 'sha256-{each}'" for each in self.script_hashes())
        # KaTeX places the parts of a formula by style attributes, which no hash can name.
        return (
            f"default-src 'none'; script-src 'self'{scripts}; style-src 'self'; "
            "style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; "
            "connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'self'; "
            "form-action 'self'; frame-ancestors 'self'"
        )


def page(title: str, body: str) -> str:
    """A whole small page in the studio's plainest dress."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        '</head><body style="font: 16px/1.5 system-ui; max-width: 40em; margin: 4em auto; padding: 0 1em">'
        f"<h1>{html.escape(title)}</h1>{body}</body></html>"
    )


def _same(given: str, secret: str) -> bool:
    """Equality in constant time, whatever the lengths."""
    digests = (hashlib.sha256(text.encode("utf-8", errors="replace")).digest() for text in (given, secret))
    return hmac.compare_digest(*digests)


def _token_in(scope: Scope) -> str | None:
    query = scope.get("query_string", b"").decode("latin-1")
    return next((value for name, value in parse_qsl(query) if name == "token"), None)


def _without_token(scope: Scope, root_path: str) -> str:
    query = scope.get("query_string", b"").decode("latin-1")
    rest = urlencode([(n, v) for n, v in parse_qsl(query, keep_blank_values=True) if n != "token"])
    # Two slashes at the start would name another server.
    path = "/" + quote(scope["path"].lstrip("/\\"))
    return f"{root_path}{path}" + (f"?{rest}" if rest else "")


def _host_name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
