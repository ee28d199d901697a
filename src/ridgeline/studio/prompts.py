"""The text of a prompt, which samples hold as tokens: decoded with the tokenizer that the run saved."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline.studio.safe import Damaged, read_bytes, sendable
from ridgeline.studio.stage_reader import StageReader

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EMBEDDED_NAME = "smollm2-135m-instruct"
"""As in ``models.embedded``, which imports torch."""
TOKENIZER_LIMIT = 128 << 20
HEADER = re.compile(r"<\|im_(start|end)\|>(system|user|assistant)?")


class Tokenizers:
    """Tokenizers by stage, kept: of the stage's own model, else of another stage, else of the recipe's."""

    def __init__(self) -> None:
        self._kept: dict[Path, Tokenizer] = {}
        self._lock = threading.Lock()

    def of(self, stage: StageReader, model: str | None) -> Tokenizer | None:
        """None where none can be found; all stages of a run share one vocabulary."""
        for root, folder in self._folders(stage, model):
            path = folder / "tokenizer.json"
            with self._lock:
                if path not in self._kept:
                    found = _load(root, path)
                    if found is None:
                        continue
                    self._kept[path] = found
                return self._kept[path]
        return None

    def _folders(self, stage: StageReader, model: str | None) -> Iterator[tuple[Path, Path]]:
        """(what the file must lie in, the folder), in order of preference."""
        stages = stage.folder.parent
        try:
            others = sorted(path for path in stages.iterdir() if path.is_dir())[:100]
        except OSError:
            others = []
        yield from ((stage.root, folder / "model") for folder in (stage.folder, *others))
        if model == EMBEDDED_NAME:
            from ridgeline.models.embedded import cache_folder

            # Nothing is converted or fetched here: only what an earlier run left in the cache is looked at.
            cache = cache_folder()
            try:
                yield from ((cache.resolve(), folder) for folder in sorted(cache.glob(f"{model}-*")))
            except OSError:
                return


def prompt_of(row: Mapping[str, Any], ids: Sequence[int] | None, tokenizer: Tokenizer | None) -> str | None:
    """What the user says last, or the decoded tokens of the prompt; None where neither is known."""
    from ridgeline.workbench.report.completions import prompt_text

    told = prompt_text(row)
    if told is not None:
        return str(sendable(told))
    if ids is None or tokenizer is None:
        return None
    text = decoded(tokenizer, ids)
    return None if text is None else HEADER.sub("", text).strip()


def decoded(tokenizer: Tokenizer, ids: Sequence[int]) -> str | None:
    """The text of the tokens, special ones included; None for ids that the vocabulary lacks."""
    try:
        return str(sendable(tokenizer.decode(list(ids), skip_special_tokens=False)))
    except (OverflowError, TypeError, ValueError):
        return None


def pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str] | None:
    """The text that each token adds; None for ids that the vocabulary lacks."""
    from ridgeline.data.pieces import token_texts

    try:
        # Only `decode` is asked of it, which both kinds of tokenizer have.
        texts = token_texts(tokenizer, ids)  # type: ignore[arg-type]
    except (OverflowError, TypeError, ValueError):
        return None
    return [str(sendable(text)) for text in texts]


def _load(root: Path, path: Path) -> Tokenizer | None:
    from tokenizers import Tokenizer

    try:
        content = read_bytes(root, path, TOKENIZER_LIMIT)
        return None if content is None else Tokenizer.from_buffer(content)
    except Damaged:
        return None
    except Exception:  # the tokenizers library raises nothing more precise
        return None
