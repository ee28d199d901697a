"""The wheel as a user gets it: built from this tree, freshly installed, run without Node.js."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NODE_TOOLS = {"node", "nodejs", "npm", "npx", "corepack"}
URL = re.compile(r"http://[^\s/]+/\?token=\S+")


def clean_copy(target: Path) -> Path:
    """The files that a commit of this tree would hold, and nothing else (no build, no node_modules)."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.split(b"\0")
    for name in {Path(os.fsdecode(raw)) for raw in listed if raw}:
        source = ROOT / name
        if source.is_file():  # deleted files are listed until the deletion is committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    return target


def path_without_node(folder: Path) -> str:
    """A PATH of everything that this machine's PATH offers except Node.js and its tools."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in os.environ["PATH"].split(os.pathsep):
        for tool in Path(place).glob("*") if place else []:
            if tool.name not in NODE_TOOLS and not (folder / tool.name).exists():
                (folder / tool.name).symlink_to(tool)
    found = [tool for tool in sorted(NODE_TOOLS) if shutil.which(tool, path=str(folder))]
    assert not found, f"{found} are still on the PATH"
    return str(folder)


def build_wheel(tree: Path, out: Path, path: str | None = None) -> Path:
    """``pip wheel`` of ``tree`` in an isolated build environment, under another PATH where one is given."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(tree)],
        env=os.environ | ({"PATH": path} if path else {}),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, f"the wheel was not built:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    (wheel,) = out.glob("ridgeline-*.whl")
    return wheel


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel; dependencies are those of the environment that tests run in."""

    folder: Path
    path: str

    @property
    def command(self) -> Path:
        return self.folder / "bin" / "ridgeline"

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")}
        return kept | {"PATH": self.path, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: str | Path, timeout: float = 120) -> str:
        """``ridgeline`` with ``arguments``; what it printed."""
        done = subprocess.run(
            [str(self.command), *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"ridgeline {arguments} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout


def install(wheel: Path, folder: Path, path: str) -> Installed:
    """``wheel`` in a new environment below ``folder``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    # Behind the environment's own packages, and without their .pth files: an editable install stays unseen.
    packages = Path(next((folder / "lib").glob("python*"))) / "site-packages"
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    installed = Installed(folder, path)
    told = subprocess.run(
        [python, "-c", "import ridgeline; print(ridgeline.__file__)"],
        env=installed.environment,
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert Path(told).is_relative_to(packages), f"ridgeline came from {told}, not from the wheel"
    return installed


class Studio:
    """``ridgeline studio`` as a process of its own."""

    def __init__(self, installed: Installed, runs: Path, *options: str) -> None:
        self.runs = runs
        self.log = runs.parent / f"{runs.name}.studio.log"
        command = [str(installed.command), "studio", str(runs), "--port", "0", "--no-browser", *options]
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command,
                env=installed.environment,
                cwd=installed.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = self._await_url()
        self.origin = self.url.split("/?")[0]
        self.token = self.url.split("token=")[1]

    def _await_url(self, seconds: float = 90) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            said = self.log.read_text(encoding="utf-8")
            if found := URL.search(said):
                return found[0]
            assert self.process.poll() is None, f"the studio ended by itself:\n{said}"
            time.sleep(0.05)
        self.process.kill()
        raise AssertionError(f"the studio named no address within {seconds} s:\n{said}")

    def stop(self) -> int:
        """Ctrl-C; the exit code. A process that does not end within 15 s is killed and reported."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                raise AssertionError(f"Ctrl-C did not end the studio:\n{self.log.read_text()}") from None
        return self.process.returncode

    def left_behind(self) -> list[int]:
        """Processes of the studio's session that outlived it."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            # After the name come state, parent, process group and session.
            if entry.name.isdigit() and int(fields[3]) == self.process.pid and fields[0] != "Z":
                found.append(int(entry.name))
        return found
