"""From training data, test questions and documents to outcomes: train what has to be trained, ask everybody."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ftclient.approaches import training
from ftclient.approaches.asks import Ask, asks_of, options_of
from ftclient.approaches.audience import SILENT, Audience
from ftclient.approaches.budget import check_budget, limit_of, priced_as
from ftclient.approaches.leaks import count_seen
from ftclient.approaches.library import Library
from ftclient.approaches.outcome import Outcomes
from ftclient.approaches.prompts import uncited
from ftclient.approaches.training import Trained
from ftclient.approaches.wishes import APPROACHES, TITLES, TRAINED, ApproachName, Wishes
from ftclient.cost.plan import Plan
from ftclient.data import Dataset
from ftclient.errors import FtclientError, UnsupportedError
from ftclient.evaluate import reasoning, spending
from ftclient.evaluate.asking import Asker
from ftclient.evaluate.compare import Comparison
from ftclient.evaluate.questions import Answer, Question, questions_of
from ftclient.evaluate.remarks import remarks
from ftclient.evaluate.retrieval import cited
from ftclient.evaluate.store import AnswerStore
from ftclient.evaluate.task import task_like

if TYPE_CHECKING:
    from ftclient.client import Client

_TIMED = 3
"""Questions that are asked one at a time, for the time that a call takes."""


def compare(
    client: Client,
    train: Dataset,
    test: Dataset,
    *,
    model: str,
    wishes: Wishes | None = None,
    audience: Audience = SILENT,
) -> Outcomes:
    """Answer the test questions by every approach that the data and the host allow.

    Jobs and answers of an earlier call with the same data and settings are used again.

    Args:
        client: Where models are trained and asked.
        train: What is learnt from, and what examples in the prompt are taken from.
        test: Questions with their answers. A key `source` beside `messages` names the document that has the answer.
        model: The base model.
        wishes: What is to be compared, and how.
        audience: Told how it goes on.

    Raises:
        BudgetError: It may cost more than was allowed, or the limit is no amount; nothing was trained or asked.
        DataError: A file or the documents cannot be used.
        JobFailedError: A job failed.
        UnsupportedError: An approach that was asked for by name is not possible here.
    """
    with ExitStack() as stack:
        wishes = wishes or Wishes()
        run = _Run(client, train, test, model=model, wishes=wishes, audience=audience)
        run.open_library(stack)
        plans = run.plans()
        run.check_budget(plans)
        if plans:
            audience.agree(list(plans.values()))
        # Who asks afresh asks every model anyway, and nobody is to be asked twice because one is found to be gone.
        trained = {name: run.train(name, plan, skip_deleted=wishes.fresh) for name, plan in plans.items()}
        store = stack.enter_context(AnswerStore(client.home))
        return training.ask_trained(
            client,
            trained,
            lambda models: run.outcomes(run.asker(store), models),
            again=lambda name: run.train(name, plans[name], skip_deleted=True),
        )


class _Run:
    """One comparison on its way."""

    def __init__(
        self, client: Client, train: Dataset, test: Dataset, *, model: str, wishes: Wishes, audience: Audience
    ) -> None:
        self._client = client
        self._train = train
        self._model = model
        self._wishes = wishes
        self._limit = limit_of(client.host, wishes.max_cost_usd)
        self._audience = audience
        self._questions = questions_of(test)
        self._examples = questions_of(train)
        self._n_seen = count_seen(self._examples, self._questions)
        self._task = task_like(self._questions, self._examples)
        self._library: Library | None = None
        self._skipped: dict[ApproachName, str] = {}

    def open_library(self, stack: ExitStack) -> None:
        """Bring the index of the documents up to date."""
        docs = self._wishes.docs
        if not self._is_wanted("rag"):
            return
        if docs is None:
            self._skip("rag", "Name a folder with documents: --docs DIR.")
            return
        self._audience.tell(f"Reading {docs}")
        library = Library(docs, home=self._client.home, n_passages=self._wishes.n_passages)
        self._library = stack.enter_context(library)

    def plans(self) -> dict[ApproachName, Plan]:
        """Plan the jobs; what nobody asked for by name and cannot be trained is skipped, with the reason."""
        found: dict[ApproachName, Plan] = {}
        for name in filter(self._is_wanted, TRAINED):
            why_not = training.why_not(self._client.host, name, self._task)
            if why_not is not None:
                self._skip(name, why_not)
                continue
            plan = self._plan(name)
            if plan is not None:
                found[name] = plan
        return found

    def check_budget(self, plans: Mapping[ApproachName, Plan]) -> None:
        """Refuse what may cost more than was allowed."""
        if self._limit is not None:
            asked = self._asked(plans)
            check_budget(self._client, list(plans.values()), asked, limit=self._limit, what="the comparison")

    def train(self, name: ApproachName, plan: Plan, *, skip_deleted: bool = False) -> Trained:
        """Run a job to its end, or find the one that has run; `skip_deleted` only if its model is still there."""
        self._audience.tell(f"Training: {TITLES[name]}")
        audience = self._audience
        return training.run(
            self._client, name, plan, follow=audience.follow, tell=audience.tell, skip_deleted=skip_deleted
        )

    def asker(self, store: AnswerStore) -> Asker:
        """Return what asks the host."""
        return Asker(
            self._client.openai,
            self._client.host,
            store,
            fresh=self._wishes.fresh,
            tell=self._audience.tell,
            is_limited=self._limit is not None,
        )

    def outcomes(self, asker: Asker, trained: Mapping[ApproachName, Trained]) -> Outcomes:
        """Ask by all approaches."""
        asks = self._asks({name: each.model for name, each in trained.items()})
        host, book = self._client.host, self._client.prices
        answers: dict[ApproachName, list[Answer]] = {}
        latency_s: dict[ApproachName, float] = {}
        for name, ask in asks.items():
            self._audience.tell(f"Asking: {TITLES[name]}")
            answers[name] = self._answers(asker, ask)
            if host.is_local:
                latency_s[name] = self._latency_s(ask)
        costs = {str(name): spending.cost_of(host, asks[name].model, answers[name], book=book) for name in asks}
        given = {str(name): self._comparable(name, answers[name]) for name in asks}
        notes = [f"{TITLES[name]}: {text}" for name in asks for text in remarks(asker, asks[name].model, answers[name])]
        return Outcomes(
            comparison=Comparison(
                questions=self._questions, given=given, task=self._task, notes=notes, costs_usd=costs
            ),
            models={name: ask.model for name, ask in asks.items()},
            trained=trained,
            latency_s=latency_s,
            skipped=self._skipped,
            ranking=self._library.ranking(self._questions) if self._library else None,
            documents=self._library.changes if self._library else None,
            cited=self._cited(answers.get("rag")),
            good_enough=self._wishes.good_enough,
            n_seen=self._n_seen,
        )

    def _comparable(self, name: ApproachName, answers: list[Answer]) -> list[Answer]:
        """Leave citations out, but where brackets may be part of the answer."""
        if name != "rag" or self._task.kind in {"json", "calls"}:
            return answers
        return [uncited(answer) for answer in answers]

    def _is_wanted(self, name: ApproachName) -> bool:
        return name in (self._wishes.approaches or APPROACHES)

    def _skip(self, name: ApproachName, why: str) -> None:
        """Leave an approach out, unless somebody asked for it by name."""
        if self._wishes.approaches:
            raise UnsupportedError(f"{TITLES[name]}: {why}")
        self._skipped[name] = why

    def _plan(self, name: ApproachName) -> Plan | None:
        try:
            return training.plan(self._client, name, self._train, model=self._model, wishes=self._wishes)
        except FtclientError as error:
            if self._wishes.approaches:
                raise
            self._skipped[name] = str(error)
            return None

    def _asks(self, trained: Mapping[ApproachName, str]) -> dict[ApproachName, Ask]:
        asks = asks_of(
            model=self._model,
            examples=self._examples,
            library=self._library,
            trained=trained,
            wishes=self._wishes,
        )
        return {name: ask for name, ask in asks.items() if self._is_wanted(name)}

    def _answers(self, asker: Asker, ask: Ask) -> list[Answer]:
        n_done = 0

        def done() -> None:
            nonlocal n_done
            n_done += 1
            self._audience.progress(n_done, len(self._questions))

        def answer(question: Question) -> Answer:
            options = options_of(question, self._questions, self._wishes)
            return asker.answer(ask.model, ask.messages(question), options)

        return asker.each(answer, self._questions, done=done)

    def _latency_s(self, ask: Ask) -> float:
        """Time some calls, one at a time; the first one is not counted, since it may load the model."""
        return statistics.median([self._timed_s(ask, each) for each in self._questions[: _TIMED + 1]][1:] or [0.0])

    def _timed_s(self, ask: Ask, question: Question) -> float:
        options = options_of(question, self._questions, self._wishes)
        options.pop(reasoning.ROOM, None)  # for askers only
        started = time.perf_counter()
        self._client.chat(ask.model, ask.messages(question), **options)
        return time.perf_counter() - started

    def _cited(self, answers: Sequence[Answer] | None) -> float | None:
        if answers is None or self._library is None:
            return None
        pairs = zip(self._questions, answers, strict=True)
        return sum(bool(cited(answer.text, self._library.find(each))) for each, answer in pairs) / len(answers)

    def _asked(self, plans: Mapping[ApproachName, Plan]) -> list[spending.Asked]:
        """What is asked at most."""
        asks = self._asks({name: priced_as(plan) for name, plan in plans.items()})
        return [
            spending.Asked(
                model=ask.model,
                prompt_tokens=spending.prompt_tokens(self._model, ask.messages(question), question.tools),
                answer_tokens=reasoning.most_tokens(ask.model, options_of(question, self._questions, self._wishes)),
            )
            for ask in asks.values()
            for question in self._questions
        ]
