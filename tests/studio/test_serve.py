from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ridgeline.schema.errors import UsageError
from ridgeline.studio import serve
from ridgeline.studio.assets import Assets

COMMAND = "import typer; from ridgeline.cli.studio import register; app = typer.Typer(); register(app); app()"


def test_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve.bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is in use"):
            serve.bind("127.0.0.1", port)
        monkeypatch.setattr(serve, "PORT", port)
        with serve.bind("127.0.0.1", None) as following:
            assert following.getsockname()[1] > port


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--no-auth"):
        serve.start(serve.Options(tmp_path, host="0.0.0.0", auth=False), block=False)
    with pytest.raises(UsageError, match="no address"):
        serve.bind("no.such.host.invalid", 0)
    with pytest.raises(UsageError, match="--root-path"):
        serve.start(serve.Options(tmp_path, root_path='/a"b'), block=False)


def test_browser_only_where_somebody_sits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSH_CONNECTION", "SSH_TTY", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert not serve.may_open_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert serve.may_open_browser()
    monkeypatch.setenv("SSH_CONNECTION", "x")
    assert not serve.may_open_browser()


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_the_command_prints_one_address_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", COMMAND, str(tmp_path), "--port", "0", "--no-browser"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    url = line.split()[-1]
    answer = httpx.get(url, follow_redirects=True, timeout=20)
    assert answer.status_code == 200 and "token" not in str(answer.url)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "") and "Traceback" not in err
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", int(url.split(":")[2].split("/")[0])))


def test_assets(tmp_path: Path) -> None:
    assets = Assets(tmp_path, "/root")
    assert b"make web" in bytes(assets.answer("runs/a", False).body)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/index-Dto7puij.js").write_text("let a = 1;\n" * 100)
    (tmp_path / "theme.js").write_text("let b = 1;\n")
    (tmp_path / "index.html").write_text(
        '<base href="/" /><script>let c = 1;</script><script src="x"></script>'
    )
    for path in ("", "runs/a.b/c", "world", "index.html"):
        page = assets.answer(path, True)
        assert b'<base href="/root/">' in bytes(page.body)
    hashed = assets.answer("assets/index-Dto7puij.js", True)
    assert "immutable" in hashed.headers["cache-control"] and hashed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in assets.answer("assets/index-Dto7puij.js", False).headers
    assert assets.answer("theme.js", False).headers["cache-control"] == "no-cache"
    assert assets.answer("assets/none-12345678.js", False).status_code == 404
    assert assets.answer("../secret.js", False).status_code == 404
    # sha256 of "let c = 1;", as a browser computes it
    import base64
    import hashlib

    wanted = base64.b64encode(hashlib.sha256(b"let c = 1;").digest()).decode()
    assert assets.script_hashes() == (wanted,)
