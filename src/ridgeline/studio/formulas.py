"""The formulas of a stage's objective as TeX, for the token that somebody clicks on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ridgeline.studio.safe import finite, sendable

if TYPE_CHECKING:
    from ridgeline.objectives.axes import PolicyObjective

ADVANTAGES: Mapping[str, str] = {
    "batch_centred": r"A_i = r_i - \operatorname{mean}_{\text{batch}}(r)",
    "batch_whiten": r"A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r)}",
    "group_centred": r"A_i = r_i - \operatorname{mean}_{\text{group}}(r)",
    "group_zscore": r"A_i = \frac{r_i - \operatorname{mean}_{\text{group}}(r)}"
    r"{\operatorname{std}_{\text{group}}(r)}",
    "leave_one_out": r"A_i = r_i - \tfrac{1}{G-1}\textstyle\sum_{j \ne i} r_j",
    "max_rl": r"A_i = \frac{r_i - \operatorname{mean}_{\text{group}}(r)}"
    r"{\operatorname{mean}_{\text{group}}(r)}",
    "optimal_value": r"A_i = r_i - \beta \log \tfrac{1}{G} \textstyle\sum_j e^{r_j / \beta}",
    "greedy_baseline": r"A_i = r_i - r_{\text{greedy}}",
    "process_zscore": r"A_t = \textstyle\sum_{k \ge t} \frac{r_k - \operatorname{mean}(r)}"
    r"{\operatorname{std}(r)}",
    "rewards_to_go": r"A_t = \textstyle\sum_{k \ge t} \gamma^{k-t} r_k",
    "gae": r"A_t = \textstyle\sum_{k \ge t} (\gamma\lambda)^{k-t} \delta_k,\quad "
    r"\delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)",
}
"""As in ``objectives.advantages``; a whitening of the whole step comes after it."""
COMMON: Mapping[str, str] = {
    "logp": r"\log \pi_{\text{sampler}}(y_t \mid s_t)",
    "ref_logp": r"\log \pi_{\text{ref}}(y_t \mid s_t)",
    "old_logp": r"\log \pi_{\text{old}}(y_t \mid s_t)",
    "kl": r"k_1 = \log \pi_{\text{old}}(y_t \mid s_t) - \log \pi_{\text{ref}}(y_t \mid s_t)",
    "ratio": r"w_t = \frac{\pi_{\text{old}}(y_t \mid s_t)}{\pi_{\text{sampler}}(y_t \mid s_t)}",
    "value": r"V(s_t)",
}
"""What the columns of a token mean. The sampler and the old policy have the same weights; they differ by how
they compute. The ratio of an update to the old policy exists within that update only."""
CLIP = (
    r"L_t = -\min\!\big(\rho_t A_t,\ \operatorname{clip}(\rho_t, 1-\varepsilon_{\text{low}}, "
    r"1+\varepsilon_{\text{high}})\, A_t\big)"
)
LOSSES: Mapping[str, str] = {
    "none": r"L_t = -\rho_t A_t",
    "clip": CLIP,
    "clip_tokens": CLIP,
    "weight": r"L_t = -\operatorname{sg}[\operatorname{clip}(\rho_t)]\, A_t \log \pi(y_t \mid s_t)",
}
"""By bounding; the losses of the others are longer than a line."""


@dataclass(frozen=True)
class Formulas:
    """name: of the objective. bounds: of the ratio of learner and sampler, where the objective bounds it."""

    name: str | None
    tex: dict[str, str]
    settings: dict[str, Any]
    bounds: tuple[float, float] | None


def formulas_of(kind: str, config: Mapping[str, Any]) -> Formulas:
    """The formulas of a stage, as far as its recipe says what it optimises."""
    name, objective = _objective(config) if kind == "rl" else (None, None)
    if objective is None:
        return Formulas(name or (kind if kind != "unknown" else None), dict(COMMON), {}, None)
    tex = dict(COMMON) | {"advantage": ADVANTAGES[objective.advantage]}
    clip = (objective.clip_low, objective.clip_high)
    if objective.ratio == "none":
        tex["loss"] = r"L_t = -A_t \log \pi(y_t \mid s_t)"
    elif objective.bounding in LOSSES:
        tex["loss"] = LOSSES[objective.bounding]
    bounds = None
    if objective.importance != "none" and objective.importance_high is not None:
        bounds = (objective.importance_low or 0.0, objective.importance_high)
        tex["clipped"] = rf"w_t \notin [{bounds[0]:g},\ {bounds[1]:g}]"
    settings = {key: value for key, value in asdict(objective).items() if value is not None}
    if clip != (None, None):
        settings["clip_low"], settings["clip_high"] = clip
    return Formulas(name, tex, sendable(settings), bounds)


def _objective(config: Mapping[str, Any]) -> tuple[str | None, PolicyObjective | None]:
    from ridgeline.objectives.presets import PRESETS

    given = config.get("objective", "grpo")
    table: dict[str, Any] = {"preset": given} if isinstance(given, str) else dict(given or {})
    name = table.pop("preset", None)
    if name not in PRESETS:
        return None, None
    kl = config.get("kl")
    for key in ("coefficient", "estimator", "placement", "corrected"):
        if isinstance(kl, Mapping) and kl.get(key) is not None:
            table[f"kl_{key}"] = kl[key]
    try:
        objective = replace(PRESETS[name], **table)
        finite(objective.kl_coefficient)
    except (TypeError, ValueError):
        return str(name), None
    return str(name), objective
