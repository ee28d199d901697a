"""HTML in small pieces. Everything that comes from a run passes through ``text``."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ridgeline.workbench.report.source import number_in


def text(value: object) -> str:
    """Escaped for element content and attribute values; completions are hostile input."""
    return html.escape(str(value), quote=True)


def number(value: float | None, *, signed: bool = False) -> str:
    """Three significant digits or so, with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size and size < 0.01:
        shown = f"{value:+.2g}" if signed else f"{value:.2g}"
    else:
        digits = 2 if size < 10 else 1 if size < 100 else 0
        shown = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    return shown.replace("-", "−")


def whole(value: float | None) -> str:
    """A count: no decimals, thousands apart."""
    return "" if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A share in percent."""
    return "–" if value is None else f"{100 * value:.0f}\u00a0%"


def interval(estimate: Any, *, signed: bool = False) -> str:
    """``0.70 [0.62, 0.78]`` of a stored estimate; ends that are unbounded show a dash."""
    value, low, high = (number_in(estimate, key) for key in ("value", "low", "high"))
    if value is None:
        return "–"
    ends = f"[{number(low, signed=signed)}, {number(high, signed=signed)}]"
    return f'<b class="n">{number(value, signed=signed)}</b> <span class="ci">{ends}</span>'


def strong(value: float | None) -> str:
    """A number that carries the sentence."""
    return f'<b class="n">{number(value)}</b>'


def section(title: str, body: str, *, kicker: str = "", anchor: str = "") -> str:
    """A section with its heading; nothing at all where there is no body."""
    if not body:
        return ""
    mark = f'<p class="kicker">{text(kicker)}</p>' if kicker else ""
    identity = f' id="{text(anchor)}"' if anchor else ""
    return f"<section{identity}>{mark}<h2>{text(title)}</h2>{body}</section>\n"


def note(message: str) -> str:
    """Something missing or broken, said quietly where it would have been."""
    return f'<p class="note">{text(message)}</p>'


def figure(title: str, picture: str, caption: str, *, legend: str = "", wide: bool = False) -> str:
    """A picture with title, legend and the line that says how to read it."""
    kind = ' class="wide"' if wide else ""
    # A number and its percent sign stay on one line.
    words = f"<figcaption>{text(caption).replace(' %', chr(160) + '%')}</figcaption>"
    return f"<figure{kind}><h4>{text(title)}</h4>{legend}{picture}{words}</figure>"


def grid(figures: Iterable[str], kind: str = "grid") -> str:
    """Figures beside each other where there is room."""
    body = "".join(figures)
    return f'<div class="{kind}">{body}</div>' if body else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, label: str) -> str:
    """A table of ready markup; the first column names the row, the others align as numbers."""
    columns = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + f'<th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}">'
        f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def details(summary: str, body: str) -> str:
    """Folded away until asked for."""
    return f"<details><summary>{text(summary)}</summary>{body}</details>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A short list of names and ready values."""
    body = "".join(f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>" for name, value in pairs if value)
    return f'<dl class="facts">{body}</dl>' if body else ""
