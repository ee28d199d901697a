"""The built front end: hashed files that browsers may keep for ever, and one page for every address."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import mimetypes
import re
import threading
from pathlib import Path

from starlette.responses import HTMLResponse, Response

from ridgeline.studio.safe import inside
from ridgeline.studio.security import page

STATIC = Path(__file__).parent / "static"
HASHED = re.compile(r"[-.][A-Za-z0-9_-]{8,}\.[a-z0-9]+$")
PACKED = (".js", ".css", ".html", ".svg", ".json", ".txt", ".map")
BASE = re.compile(r"<base\s+href=\"[^\"]*\"\s*/?>")
SCRIPT = re.compile(r"<script(?P<attributes>[^>]*)>(?P<code>.*?)</script>", re.DOTALL)
TYPES = {".js": "text/javascript", ".woff2": "font/woff2", ".wasm": "application/wasm"}
NOT_BUILT = (
    "<p>The front end is not built. In a source checkout, run:</p><pre>make web</pre>"
    "<p>It needs node and npm. Or install the wheel, which holds it: <code>pip install ridgeline</code>.</p>"
)


class Assets:
    """Files below ``folder``, packed once and kept until they change."""

    def __init__(self, folder: Path = STATIC, root_path: str = "") -> None:
        self.folder = folder.resolve()
        self.root_path = root_path
        self._kept: dict[Path, tuple[int, bytes, bytes | None]] = {}
        self._lock = threading.Lock()

    @property
    def is_built(self) -> bool:
        return (self.folder / "index.html").is_file()

    def answer(self, path: str, accepts_gzip: bool) -> Response:
        """The file at ``path``; the page for every path that names no file; 404 for a missing file."""
        file = self._file(path)
        if file is not None and file.name != "index.html":
            return self._respond(file, accepts_gzip)
        if "." in path.rsplit("/", 1)[-1] and path not in ("index.html",):
            return HTMLResponse(page("Not found", "<p>The studio has no such file.</p>"), status_code=404)
        return self.index()

    def index(self) -> Response:
        """The page, or how to build it."""
        if not self.is_built:
            return HTMLResponse(page("Ridgeline studio", NOT_BUILT))
        return HTMLResponse(self._index(), headers={"Cache-Control": "no-cache"})

    def script_hashes(self) -> tuple[str, ...]:
        """SHA-256 of the scripts that stand in the page itself, for its policy."""
        if not self.is_built:
            return ()
        return tuple(
            base64.b64encode(hashlib.sha256(match["code"].encode()).digest()).decode()
            for match in SCRIPT.finditer(self._index())
            if "src=" not in match["attributes"]
        )

    def _index(self) -> str:
        content = self._content(self.folder / "index.html")[0].decode("utf-8")
        return BASE.sub(f'<base href="{html.escape(self.root_path)}/">', content, count=1)

    def _file(self, path: str) -> Path | None:
        if not path or "\0" in path or "\\" in path or any(p in ("", ".", "..") for p in path.split("/")):
            return None
        file = self.folder / path
        try:
            return file if file.is_file() and inside(self.folder, file) else None
        except OSError:
            return None

    def _respond(self, file: Path, accepts_gzip: bool) -> Response:
        plain, packed = self._content(file)
        forever = HASHED.search(file.name) is not None and file.parent != self.folder
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable" if forever else "no-cache",
            "Vary": "Accept-Encoding",
        }
        kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        if accepts_gzip and packed is not None:
            return Response(packed, media_type=kind, headers={**headers, "Content-Encoding": "gzip"})
        return Response(plain, media_type=kind, headers=headers)

    def _content(self, file: Path) -> tuple[bytes, bytes | None]:
        changed = file.stat().st_mtime_ns
        with self._lock:
            known = self._kept.get(file)
        if known is None or known[0] != changed:
            plain = file.read_bytes()
            packed = gzip.compress(plain, 6, mtime=0) if file.suffix in PACKED else None
            known = (changed, plain, packed if packed is not None and len(packed) < len(plain) else None)
            with self._lock:
                self._kept[file] = known
        return known[1], known[2]
