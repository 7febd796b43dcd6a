"""From a held-out file and some models to a comparison: what is asked, in which order, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftclient.cost.book import PriceBook
from ftclient.errors import BackendError
from ftclient.evaluate import judge, reasoning, spending
from ftclient.evaluate.asking import LONGEST_PAUSE_S, Asker, Tell
from ftclient.evaluate.compare import Comparison, Measured
from ftclient.evaluate.grade_answers import check_worked, complaint, graded, runs_code, to_ask
from ftclient.evaluate.graders import Grader, read_grader, require_sandbox
from ftclient.evaluate.questions import Answer, Question, first_places, questions_of
from ftclient.evaluate.remarks import remarks
from ftclient.evaluate.scoring import can_score, likelihoods
from ftclient.evaluate.spending import Asked, Spending
from ftclient.evaluate.store import AnswerStore, oldest_day
from ftclient.evaluate.task import metric_of, task_of
from ftclient.hosts import Host

if TYPE_CHECKING:
    from openai import OpenAI

Progress = Callable[[int, int], None]
"""Called with answers received and answers in all."""
Announce = Callable[[Spending], None]
"""Told what is to be asked and what it may cost, before anything is."""

_SPARE_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How to evaluate."""

    max_tokens: int | None = None
    """Longest answer; None is just long enough for the longest expected one (a token is a byte at least).

    What a model thinks before it answers is part of it; with None, models that do so have more room.
    """
    grader: Grader | Mapping[str, Any] | None = None
    """A grader whose rewards models are compared by, in place of the metrics that the data suggest."""
    judge: str | None = None
    """A model that says whose answers it prefers: each further model's, or the first's."""
    perplexity: bool | None = None
    """How likely each model finds the expected answers (the local backend only).

    None: for free text and facts, where all of them can be read.
    """
    max_cost_usd: Decimal | float | str | None = None
    """Refuse if it may cost more, or nobody knows what it costs."""
    is_limited: bool = False
    """The caller keeps to a limit: no answer is to be longer than its model's name lets one count with."""
    fresh: bool = False
    """Ask again what was asked before."""
    workers: int | None = None
    """Questions under way at once; None suits the host."""
    longest_pause_s: float = LONGEST_PAUSE_S
    """Give up where the host asks to be left alone for longer."""
    prices: PriceBook | None = None
    """What hosts charge; None is what holds here."""

    def options(self, questions: Sequence[Question]) -> dict[str, Any]:
        """The options of every question, with room to reason where nobody has said how long answers may be."""
        longest = max(len(_all_text(each).encode()) for each in questions) + _SPARE_TOKENS
        room = {} if self.max_tokens else {reasoning.ROOM: reasoning.TOKENS}
        return {"max_tokens": self.max_tokens or longest, "temperature": 0, **room}


def evaluate(  # noqa: PLR0913 - three of them are told how it goes on
    openai: OpenAI,
    host: Host,
    examples: Any,
    *,
    models: Sequence[str],
    home: Path,
    wishes: Wishes | None = None,
    progress: Progress | None = None,
    announce: Announce | None = None,
    tell: Tell | None = None,
) -> Comparison:
    """Ask every model every question at temperature 0; what was answered in an earlier call is not asked again.

    Args:
        openai: The official client.
        host: Where the models are.
        examples: Examples that end with the expected answer.
        models: Whom to ask; further ones are compared with the first.
        home: The client's home, where answers are kept.
        wishes: How.
        progress: Told after each answer.
        announce: Told what it may cost.
        tell: Told in words when the host fails and is asked again after a pause; called by any thread.

    Raises:
        BudgetError: It may cost more than was allowed; nothing was asked.
        DataError: The examples or the grader cannot be used.
        FtclientError: The grader failed on every answer, or the judge on every one of many pairs. Answers are kept.
        BackendError: The host refused or failed. Answers that came are kept: the same call goes on from there.
    """
    run = _Run(host, questions_of(examples), list(dict.fromkeys(models)), wishes or Wishes(), progress)
    with AnswerStore(home) as store:
        asker = Asker(
            openai,
            host,
            store,
            workers=run.wishes.workers,
            fresh=run.wishes.fresh,
            tell=tell,
            longest_pause_s=run.wishes.longest_pause_s,
            is_limited=run.wishes.is_limited or run.wishes.max_cost_usd is not None,
        )
        bill = run.spending(asker)
        if announce:
            announce(bill)
        if run.wishes.max_cost_usd is not None:
            bill.check_budget(run.wishes.max_cost_usd)
        try:
            return run.compared(openai, asker)
        except BackendError as error:
            raise _with_rest(error, run) from error.__cause__


class _Run:
    """One evaluation on its way."""

    def __init__(
        self, host: Host, questions: list[Question], models: list[str], wishes: Wishes, progress: Progress | None
    ) -> None:
        self._host = host
        self.questions = questions
        self.models = models
        self.wishes = wishes
        self.n_done = 0
        self._firsts = first_places(questions)
        self._progress = progress
        self._options = wishes.options(questions)
        self._grader = _grader_of(wishes)
        self.n_all = len(questions) * len(models) + self._n_more()

    def spending(self, asker: Asker) -> Spending:
        """What is to be asked, and what it costs at most."""
        asked: list[Asked] = []
        firsts = frozenset(self._firsts)
        stored: dict[str, list[Answer]] = {model: [] for model in self.models}
        for at, question in enumerate(self.questions):
            known = {model: self._known(asker, model, question) for model in self.models}
            if at in firsts:
                asked += [self._asked_once(model, question) for model, answer in known.items() if answer is None]
                for model, answer in known.items():
                    stored[model] += [answer] if answer else []
            if not self._host.is_local:
                asked += self._asked_about(asker, question, known)
        dubious = [answer for model, answers in stored.items() if not asker.is_fixed(model) for answer in answers]
        n_stored = sum(map(len, stored.values()))
        return spending.spending(
            self._host, asked, n_stored=n_stored, oldest=oldest_day(dubious), book=self.wishes.prices
        )

    def _known(self, asker: Asker, model: str, question: Question) -> Answer | None:
        return asker.known(model, question.messages, self._asked_with(question))

    def _asked_about(self, asker: Asker, question: Question, known: Mapping[str, Answer | None]) -> list[Asked]:
        """What grader and judge will ask about the answers to one question."""
        found: list[Asked] = []
        longest_of = {model: reasoning.most_tokens(model, self._options) for model in known}
        if self._grader is not None:
            for model, answer in known.items():
                found += to_ask(asker, self._grader, question, answer, longest_tokens=longest_of[model])
        if self.wishes.judge:
            first, *others = known.values()
            for other in others:
                found += judge.to_ask(
                    asker, self.wishes.judge, question, (first, other), longest_tokens=self._longest_tokens()
                )
        return found

    def _longest_tokens(self) -> int:
        return max(reasoning.most_tokens(model, self._options) for model in self.models)

    def _asked_once(self, model: str, question: Question) -> Asked:
        # Counting takes time, and at servers of one's own nothing depends on it.
        is_free = self._host.is_local
        n_prompt = 0 if is_free else spending.prompt_tokens(model, question.messages, question.tools)
        return Asked(model=model, prompt_tokens=n_prompt, answer_tokens=reasoning.most_tokens(model, self._options))

    def compared(self, openai: OpenAI, asker: Asker) -> Comparison:
        """Ask, measure, and return the comparison."""
        # One model after the other, so that a machine need not hold two models at work.
        given = {model: self._answers(asker, model) for model in self.models}
        extra: list[Measured] = []
        notes = [f"{model}: {text}" for model, answers in given.items() for text in remarks(asker, model, answers)]
        if self._grader is not None:
            extra.append(self._graded(asker, self._grader, given, notes))
        if self.wishes.judge and len(self.models) > 1:
            extra += self._judged(asker, self.wishes.judge, given, notes)
        task = task_of(self.questions, are_labels=any(map(asker.is_classifier, self.models)))
        wanted = self.wishes.perplexity
        if can_score(asker, self._host, self.models, task, wanted=wanted):
            likely, left_out = likelihoods(openai, self._host, self.models, self.questions, is_wanted=bool(wanted))
            extra += [likely] if likely else []
            notes += left_out
        return Comparison(
            questions=self.questions,
            given=given,
            task=task,
            extra=extra,
            leads=self._grader is not None,
            notes=notes,
            costs_usd={
                model: spending.cost_of(
                    self._host, model, [answers[at] for at in self._firsts], book=self.wishes.prices
                )
                for model, answers in given.items()
            },
        )

    def _asked_with(self, question: Question) -> dict[str, Any]:
        return {**self._options, **({"tools": list(question.tools)} if question.tools else {})}

    def _answers(self, asker: Asker, model: str) -> list[Answer]:
        def ask(question: Question) -> Answer:
            return asker.answer(model, question.messages, self._asked_with(question))

        return asker.each(ask, self.questions, done=self._tell)

    def _graded(
        self, asker: Asker, grader: Grader, given: Mapping[str, Sequence[Answer]], notes: list[str]
    ) -> Measured:
        grades = {
            model: graded(asker, grader, self.questions, answers, done=self._tell) for model, answers in given.items()
        }
        check_worked(grader, [each for found in grades.values() for each in found])
        complaints = [(model, complaint(grader, found)) for model, found in grades.items()]
        notes += [f"{model}: {text}" for model, text in complaints if text]
        values = {model: [each.reward for each in found] for model, found in grades.items()}
        return Measured(metric=metric_of(grader), values=values)

    def _judged(self, asker: Asker, by: str, given: Mapping[str, Sequence[Answer]], notes: list[str]) -> list[Measured]:
        """The judge's figure; none where it never gave a verdict, on few pairs."""
        first, *others = self.models
        shown = {model: self._shown_to(by, answers) for model, answers in given.items()}

        def prefer(pair: tuple[Question, Answer, Answer]) -> judge.Preference:
            return judge.preference(asker, by, *pair)

        found = {
            model: asker.each(
                prefer, list(zip(self.questions, shown[first], shown[model], strict=True)), done=self._tell
            )
            for model in others
        }
        failure = judge.check_worked(by, [each for preferences in found.values() for each in preferences])
        if failure is not None:
            notes.append(failure)
            return []
        complaints = [(model, judge.complaint(by, preferences)) for model, preferences in found.items()]
        notes += [f"{model}: {text}" for model, text in complaints if text]
        values = {model: [each.value for each in preferences] for model, preferences in found.items()}
        return [judge.measured(values, first=first)]

    def _shown_to(self, by: str, answers: Sequence[Answer]) -> Sequence[Answer]:
        """The answers as the judge is shown them; at servers of one's own nothing depends on their length."""
        if self._host.is_local:
            return answers
        longest = self._longest_tokens()
        return [judge.shown_to(by, answer, longest_tokens=longest) for answer in answers]

    def _tell(self) -> None:
        self.n_done += 1
        if self._progress:
            self._progress(self.n_done, self.n_all)

    def _n_more(self) -> int:
        """Steps beside the answers: one a grade, and one a judged pair."""
        n_grades = len(self.questions) * len(self.models) if self._grader is not None else 0
        n_pairs = len(self.questions) * (len(self.models) - 1) if self.wishes.judge else 0
        return n_grades + n_pairs


def _grader_of(wishes: Wishes) -> Grader | None:
    grader = wishes.grader
    if isinstance(grader, Mapping):
        grader = read_grader(grader, source="grader")
    if grader is not None and runs_code(grader):
        require_sandbox()
    return grader


def _with_rest(error: BackendError, run: _Run) -> BackendError:
    """The error, with what is kept."""
    kept = f"{error} {run.n_done:,} of {run.n_all:,} are done and kept"
    # What a host refuses as wrong it refuses again.
    rest = "" if error.status_code == HTTPStatus.BAD_REQUEST else ": the same call goes on from there"
    return type(error)(f"{kept}{rest}.", *error.args[1:])


def _all_text(question: Question) -> str:
    return question.expected + "".join(f"{call.name}{call.arguments}" for call in question.expected_calls)
