"""What every stage is given: its place on disk, the models of earlier stages, and who watches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ridgeline.data.chat import encode_prompts, stop_token_ids
from ridgeline.data.formats import PromptRow, prompts
from ridgeline.data.sources import read_rows
from ridgeline.data.template import apply_template
from ridgeline.models.load import LanguageModel, load_model
from ridgeline.models.probe import head_is_known, supports_packing
from ridgeline.models.score_model import ScoreModel, load_score_model
from ridgeline.rollout.draws import text_key
from ridgeline.rollout.native import NATIVE, new_sampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.errors import UsageError
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.run_folder import RunFolder, StageFolder, write_atomic
from ridgeline.schema.stages.common import Adapter, Optimiser, Work
from ridgeline.training.engine import Forward
from ridgeline.training.interrupts import StopRequest
from ridgeline.training.local import LocalEngine
from ridgeline.training.loop import Context, Job, train
from ridgeline.training.observer import Observer


@dataclass
class StageContext:
    """One stage of one run."""

    recipe: Recipe
    run: RunFolder
    folder: StageFolder
    observer: Observer
    stop: StopRequest
    device: torch.device
    dtype: torch.dtype
    samplers_told: set[str] = field(default_factory=set)

    @property
    def seed(self) -> int:
        """A seed of this stage's own, so that stages never share draws."""
        return text_key(f"{self.recipe.seed}/{self.folder.name}") >> 1

    def language_model(self, name: str) -> LanguageModel:
        """``base`` or the model that an earlier stage made, with the recipe's chat template."""
        source = self.recipe.model if name == "base" else str(self._folder_of(name).model)
        self.observer.phase(f"loading {name}")
        model = load_model(source, dtype=self.dtype, device=self.device)
        apply_template(model.tokenizer, self.recipe.chat_template)
        if not head_is_known(model.module):
            raise UsageError(
                f"the model '{source}' transforms its logits in a way this version does not reproduce; "
                "please report its architecture."
            )
        return model

    def score_model(self, name: str) -> ScoreModel:
        """The reward model that an earlier stage made."""
        self.observer.phase(f"loading {name}")
        return load_score_model(self._folder_of(name).model, dtype=self.dtype, device=self.device)

    def is_stage(self, name: str) -> bool:
        return any(stage.name == name for stage in self.recipe.stage)

    def _folder_of(self, name: str) -> StageFolder:
        number = next(number for number, stage in enumerate(self.recipe.stage) if stage.name == name)
        return self.run.stage(number, name)

    def output_of(self, name: str) -> StageFolder:
        """Folder of an earlier stage."""
        return self._folder_of(name)

    def prompts(self, source: str) -> list[PromptRow]:
        """Prompt rows of a file."""
        return prompts(read_rows(source), source)

    def add_policy(
        self,
        engine: LocalEngine,
        role: str,
        model: LanguageModel,
        work: Work,
        *,
        forward: Forward,
        optimiser: Optimiser | None = None,
        adapter: Adapter | None = None,
        longest: int = 0,
        persistent: bool = False,
    ) -> None:
        """Register a language model under ``role``, able to sample; with ``adapter`` only that one learns."""
        if adapter is not None:
            self._add_adapter(model, adapter)
        packed = work.layout == "packed" or (
            work.layout == "auto" and supports_packing(model.module, longest)
        )
        if work.layout == "packed" and not supports_packing(model.module, longest):
            raise UsageError('this model does not support work.layout = "packed"; use "auto".')
        sampler, which = new_sampler(model.module, model.tokenizer, stop_ids(model))
        self._record_sampler(role, which)
        engine.add(
            role,
            model.module,
            forward,
            packed=packed,
            tokens_per_microbatch=work.tokens_per_microbatch,
            optimiser=optimiser,
            sampler=sampler,
            recompute=work.checkpointing and optimiser is not None,
            persistent=persistent,
        )

    def _record_sampler(self, role: str, which: str) -> None:
        """Into ``environment.json``; and a line for the user, once, where it is the slower one."""
        path = self.run.path / "environment.json"
        if path.is_file():
            environment = json.loads(path.read_text(encoding="utf-8"))
            environment.setdefault("samplers", {}).setdefault(self.folder.name, {})[role] = which
            write_atomic(path, json.dumps(environment, indent=1) + "\n")
        if which != NATIVE and which not in self.samplers_told:
            self.samplers_told.add(which)
            self.warn(f"the {role} is sampled by the slower sampler: {which}")

    def _add_adapter(self, model: LanguageModel, adapter: Adapter) -> None:
        from ridgeline.models.adapters import add_adapter, trainable_share

        model.adapter = add_adapter(model.module, adapter, seed=self.seed)
        share = 100 * trainable_share(model.module)
        self.observer.note(f"{adapter.kind} of rank {adapter.rank}: {share:.2f} % of the weights learn")

    def add_reference(
        self,
        engine: LocalEngine,
        model: LanguageModel,
        work: Work,
        *,
        forward: Forward,
        name: str | None = None,
        moves: bool = False,
    ) -> None:
        """Register the frozen ``reference`` of the role ``policy``, which is about to learn on ``model``.

        The model called ``name``, else the weights that ``model`` has now; with an adapter these are the
        policy's own with the adapter off, which cost no memory. A reference that ``moves`` (by
        ``copy_weights``) is a copy, and kept in every checkpoint.

        Raises:
            UsageError: a reference that moves has to be of the policy's own making.
        """
        if moves and name is not None and model.adapter is not None:
            raise UsageError("a reference that is refreshed from an adapter cannot be another model.")
        if name is None and model.adapter is not None and not moves:
            from ridgeline.models.adapters import WithoutAdapter

            sampler = engine.roles["policy"].sampler
            assert sampler is not None
            without = WithoutAdapter(model.adapter, sampler)
            engine.add_view("reference", "policy", WithoutAdapter(model.adapter, forward), without)
            return
        reference = model.snapshot() if name is None else self.language_model(name)
        self.add_policy(engine, "reference", reference, work, forward=forward, persistent=moves)

    def save_model(self, model: LanguageModel) -> None:
        """The stage's output: a plain model, and beside it the adapter by itself where one was trained."""
        self.observer.phase("saving the model")
        if model.adapter is not None:
            from ridgeline.models.adapters import merge

            model.adapter.save_pretrained(str(self.folder.adapter), save_embedding_layers=False)
            merge(model.adapter)
            model.adapter = None
        model.save(self.folder.model)

    def train(self, engine: LocalEngine, job: Job) -> None:
        """The loop, in this stage's folder."""
        train(engine, job, Context(self.run, self.folder, self.observer, self.stop))

    def warn(self, text: str) -> None:
        """A line for the user and for ``events.jsonl``."""
        self.observer.note(text)
        self.run.event("warning", stage=self.folder.name, text=text)


def stop_ids(model: LanguageModel) -> list[int]:
    """Tokens that end a completion: the template's end of turn and the model's own end of sequence."""
    eos = model.module.generation_config.eos_token_id if model.module.generation_config else None
    return stop_token_ids(model.tokenizer, eos)


def requests_for(model: LanguageModel, rows: Sequence[PromptRow], samples: int) -> list[PromptRequest]:
    """One request per prompt, rendered with the model's template."""
    encoded = encode_prompts(model.tokenizer, [row.messages for row in rows])
    return [
        PromptRequest(row.id, ids, samples, row=row.as_seen_by_rewards())
        for row, ids in zip(rows, encoded, strict=True)
    ]


def ends(evaluations: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """First and last evaluation of a stage."""
    return (evaluations[0], evaluations[-1]) if evaluations else ({}, {})
