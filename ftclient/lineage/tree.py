"""The family tree of models: bases, what was tuned from them, and what was tuned from those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftclient.lineage.store import MadeOf, Scored

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob


@dataclass(kw_only=True)
class Node:
    """One model, and those that were tuned from it."""

    model: str
    job_id: str | None = None
    """The job that made it; None for base models."""
    data_sha256: str | None = None
    """Of its training file, where this machine uploaded it."""
    data_file: str | None = None
    """The training file's id at the host."""
    made_of: MadeOf | None = None
    """What the training data were made of, where they were made here."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Method and hyperparameters, as the host resolved them; `tune` and `task` where they were chosen here."""
    plan: Mapping[str, Any] | None = None
    """What was estimated before it was trained, where that was done here."""
    scores: Sequence[Scored] = ()
    children: list[Node] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The node and all below it as plain values."""
        made_of = self.made_of
        return {
            "model": self.model,
            "job": self.job_id,
            "data_sha256": self.data_sha256,
            "data_file": self.data_file,
            "made_of": {"parents": list(made_of.parents), "feedback": list(made_of.feedback)} if made_of else None,
            "settings": dict(self.settings),
            "plan": self.plan,
            "scores": [score.to_json() for score in self.scores],
            "children": [child.to_json() for child in self.children],
        }


def tree_of(
    jobs: Sequence[FineTuningJob],
    *,
    sha256_of: Mapping[str, str],
    plans: Mapping[str, Mapping[str, Any]],
    scores: Sequence[Scored],
    origins: Mapping[str, MadeOf],
) -> list[Node]:
    """Return the bases with everything that was tuned from them, by name.

    Args:
        jobs: Those of the host; such as made no model are passed over.
        sha256_of: Content of files, by their id at the host.
        plans: What was estimated, by job id.
        scores: What models scored.
        origins: What datasets were made of, by sha256.
    """
    of_model: dict[str, list[Scored]] = defaultdict(list)
    for score in scores:
        of_model[score.model].append(score)
    nodes: dict[str, Node] = {}
    tuned = {job.fine_tuned_model: job for job in jobs if job.fine_tuned_model}
    for model, job in tuned.items():
        sha256 = sha256_of.get(job.training_file)
        nodes[model] = Node(
            model=model,
            job_id=job.id,
            data_sha256=sha256,
            data_file=job.training_file,
            made_of=origins.get(sha256 or ""),
            settings={**_settings(job), **((plans.get(job.id) or {}).get("local") or {})},
            plan=plans.get(job.id),
            scores=of_model[model],
        )
    for model, job in sorted(tuned.items(), key=lambda pair: pair[1].created_at):
        parent = _parent(job.model, tuned)
        if parent not in nodes:
            nodes[parent] = Node(model=parent, scores=of_model[parent])
        nodes[parent].children.append(nodes[model])
    return sorted((node for name, node in nodes.items() if name not in tuned), key=lambda node: node.model)


def _parent(model: str, tuned: Mapping[str, Any]) -> str:
    """Return the model that a checkpoint belongs to, or the model itself."""
    if model in tuned:
        return model
    final = model.split(":ckpt-step-", maxsplit=1)[0]
    return final if final in tuned else model


def _settings(job: FineTuningJob) -> dict[str, Any]:
    method: Mapping[str, Any] = job.method.to_dict(mode="json") if job.method else {}
    kind = str(method.get("type") or "supervised")
    chosen = (method.get(kind) or {}).get("hyperparameters") or job.hyperparameters.to_dict(mode="json")
    return {"method": kind, **{name: value for name, value in chosen.items() if value is not None}, "seed": job.seed}
