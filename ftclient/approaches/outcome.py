"""What came of each approach, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.jupyter import JupyterMixin

from ftclient.approaches.training import Trained
from ftclient.approaches.wishes import APPROACHES, GOOD_ENOUGH, TITLES, ApproachName
from ftclient.evaluate.compare import Comparison, Figure

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ftclient.approaches.verdict import Verdict
    from ftclient.evaluate.retrieval import Changes, Ranking


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one approach did. Shares are of 1."""

    name: ApproachName
    model: str
    figure: Figure
    """By what approaches are compared."""
    alone: float
    """The share of the questions that this approach alone got right."""
    trained: Trained | None
    """None: nothing was trained."""
    latency_s: float | None
    """Seconds from question to answer for one question at a time; None where nobody measured."""
    prompt_tokens: float | None
    """Tokens of a prompt, on average."""
    call_usd: Decimal | None
    """What an answer costs, on average; None where prices are not known."""

    @property
    def title(self) -> str:
        """The approach in words."""
        return TITLES[self.name]

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        trained = self.trained
        return {
            "approach": self.name,
            "model": self.model,
            **self.figure.to_json(),
            "alone": self.alone,
            "job": trained.job_id if trained else None,
            "training_s": trained.seconds if trained else 0.0,
            "training_usd": _text(trained.cost_usd) if trained else "0",
            "latency_s": self.latency_s,
            "prompt_tokens": self.prompt_tokens,
            "call_usd": _text(self.call_usd),
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class Outcomes(JupyterMixin):
    """What came of all approaches. Prints itself with rich."""

    comparison: Comparison
    """The answers, by the approaches' names."""
    models: Mapping[ApproachName, str]
    trained: Mapping[ApproachName, Trained]
    latency_s: Mapping[ApproachName, float] = field(default_factory=dict)
    skipped: Mapping[ApproachName, str] = field(default_factory=dict)
    """Why an approach was not tried."""
    ranking: Ranking | None = None
    """How well retrieval found the passages, where the test questions name their source."""
    documents: Changes | None = None
    cited: float | None = None
    """The share of answers by retrieval that cite a passage."""
    good_enough: float = GOOD_ENOUGH
    n_seen: int = 0
    """Test questions that the training data have, too."""

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """One outcome an approach, best first; among equals, the one that takes less effort."""
        found = [self._outcome(name) for name in APPROACHES if name in self.comparison.given]
        sign = -1 if self.comparison.main.metric.lower_is_better else 1
        return sorted(found, key=lambda outcome: -sign * outcome.figure.value)

    @cached_property
    def verdict(self) -> Verdict:
        """What to do, and why."""
        from ftclient.approaches.verdict import judge

        return judge(self)

    def outcome(self, name: ApproachName) -> Outcome:
        """Return the outcome of an approach that was tried."""
        return next(each for each in self.outcomes if each.name == name)

    def to_json(self) -> dict[str, Any]:
        """Outcomes, verdict, and all answers."""
        return {
            "metric": self.comparison.main.metric.name,
            "n_questions": len(self.comparison.questions),
            "n_seen": self.n_seen,
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
            "verdict": self.verdict.to_json(),
            "skipped": dict(self.skipped),
            "retrieval": _retrieval(self),
            "comparison": self.comparison.to_json(),
        }

    def to_html(self, path: Path | str | None = None, *, title: str = "", lang: str = "en") -> str:
        """Return one page with the verdict, all answers, and filters, and write it to `path` if one is given.

        Args:
            path: Where to.
            title: What was compared: the file's name, say.
            lang: `en` or `ja`: the language of the page's own words; reasons are in English.
        """
        from ftclient.approaches.page import page

        text = page(self, title=title, lang=lang)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def __repr__(self) -> str:
        """The figures, without any text of the data."""
        return "<Outcomes: " + ", ".join(f"{each.name} {each.figure.value:.2f}" for each in self.outcomes) + ">"

    def __rich__(self) -> RenderableType:
        """The table and the verdict, for `rich.print(outcomes)`."""
        from ftclient.approaches.view import render

        return render(self)

    def _outcome(self, name: ApproachName) -> Outcome:
        comparison = self.comparison
        score = next(each for each in comparison.scores if each.model == name)
        n_answered = score.n - score.n_refused
        return Outcome(
            name=name,
            model=self.models[name],
            figure=score.figures[comparison.main.metric.name],
            alone=self._alone(name),
            trained=self.trained.get(name),
            latency_s=self.latency_s.get(name, score.median_s),
            prompt_tokens=_mean([answer.prompt_tokens for answer in comparison.given[name]]),
            call_usd=score.cost_usd / n_answered if score.cost_usd is not None and n_answered else None,
        )

    def _alone(self, name: ApproachName) -> float:
        others = [self.comparison.right(each) for each in self.comparison.given if each != name]
        mine = self.comparison.right(name)
        n_alone = sum(right and not any(them) for right, *them in zip(mine, *others, strict=True))
        return float(n_alone) / len(mine)


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _text(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd:f}"


def _retrieval(outcomes: Outcomes) -> dict[str, Any] | None:
    documents, ranking = outcomes.documents, outcomes.ranking
    if documents is None:
        return None
    return {
        "n_documents": documents.n_documents,
        "n_passages": documents.n_passages,
        "skipped": list(documents.skipped),
        "cited": outcomes.cited,
        "k": ranking.k if ranking else None,
        "hit_rate": ranking.hit_rate if ranking else None,
        "mean_reciprocal_rank": ranking.mean_reciprocal_rank if ranking else None,
    }
