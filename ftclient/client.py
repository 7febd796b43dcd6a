"""The one object that users hold."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftclient.connection import Connection
from ftclient.cost.accuracy import Accuracy
from ftclient.cost.offers import Offers
from ftclient.cost.plan import Plan
from ftclient.data import Dataset, Report
from ftclient.evaluate.chat import Prompt
from ftclient.hosts import MethodType
from ftclient.jobs.export import ExportFormat
from ftclient.jobs.job import Job
from ftclient.jobs.journal import Launch
from ftclient.jobs.local import Measuring, PullProgress
from ftclient.jobs.local_options import LocalOptions
from ftclient.jobs.methods import Method, Supervised
from ftclient.jobs.request import JobRequest
from ftclient.jobs.upload import Reuse
from ftclient.jobs.upload_parts import Progress
from ftclient.planning import judge_plans, make_plan
from ftclient.wire import checked_items, errors_of

if TYPE_CHECKING:
    from openai.types import FileObject, Model
    from openai.types.fine_tuning import FineTuningJob

    from ftclient.evaluate.compare import Comparison
    from ftclient.evaluate.evaluation import Announce
    from ftclient.evaluate.evaluation import Progress as EvaluationProgress
    from ftclient.feedback import Feedback, Verdict
    from ftclient.lineage import Node


class Client(Connection):
    """Fine-tuning at one host, through the official client.

    Args:
        openai: An official client of your own.
        host: What the host can do and what it charges; None recognises it by the client's address.
        home: Folder of what this machine must not forget; None is FTCLIENT_HOME or the platform's data folder.

    Methods that ask the host raise AuthError, AccessError, RateLimitError, UnavailableError or BackendError.
    """

    def check(
        self, data: Dataset, *, model: str | None = None, method: MethodType = "supervised", is_training: bool = True
    ) -> Report:
        """Check a dataset by the host's rules, and at the local backend with the model's own tokenizer too."""
        report = data.check(model=model, method=method, limits=self.host.limits, is_training=is_training)
        if not (self.host.is_local and model and report.ok):
            return report
        from ftclient.jobs.local import check_with_tokenizer

        return check_with_tokenizer(self._official, self.host, file_id=self.upload(data), model=model, method=method)

    def upload(self, data: Dataset, *, progress: Progress | None = None, reuse: Reuse | None = None) -> str:
        """Return the id of a file at the host with exactly this content, sending it only if need be.

        Args:
            data: What to send.
            progress: Told about uploaded bytes.
            reuse: Asked about a file of the same bytes that somebody else uploaded, under whatever name.
        """
        from ftclient.jobs.upload import upload

        return upload(self._official, self.host, data, journal=self._journal, progress=progress, reuse=reuse)

    def plan(
        self,
        /,
        train: Dataset,
        *,
        model: str,
        valid: Dataset | None = None,
        method: Method | None = None,
        local: LocalOptions | None = None,
        suffix: str | None = None,
        seed: int | None = None,
        measuring: Measuring | None = None,
        **more: Any,
    ) -> Plan:
        """Check the data and say what the job will take; nothing is started.

        Args:
            train: What to learn from.
            model: A base model, or a tuned one to go on from.
            valid: What to measure on along the way.
            method: Supervised(), DPO() or Reinforcement(...); None is Supervised().
            local: Choices that only the local backend knows.
            suffix: Part of the tuned model's name, up to 64 characters.
            seed: Makes the run repeatable.
            measuring: Told how the local machine is measured, once for each model: parts done, of how many, what.
            more: Further fields of JobRequest: training_type (Azure), metadata, integrations, extra_body.

        Raises:
            DataError: A dataset has errors; `error.report` lists them.
            UnsupportedError: The host cannot do this.
        """
        request = JobRequest(
            model=model,
            train=train,
            valid=valid,
            method=method or Supervised(),
            local=local,
            suffix=suffix,
            seed=seed,
            **more,
        )
        upload, book = self.upload, self.prices
        return make_plan(self._official, self.host, request, upload=upload, book=book, measuring=measuring)

    def offers(self, /, train: Dataset, *, plan: Plan | None = None, **chosen: Any) -> Offers:
        """Return what the same job costs at every host and model that could run it; none of them is asked.

        Args:
            train: What to learn from.
            plan: A plan of the local backend, for its time and energy.
            chosen: method; calls_per_day, prompt_tokens, answer_tokens, shots, in_batches add the cost of use.
        """
        from ftclient.cost.offers import compare_offers

        return compare_offers(train, plan=plan, book=self.prices, **chosen)

    def plan_accuracy(self, *, limit: int = 50) -> Accuracy:
        """Return past jobs of this home at the host, newest first, each beside its plan."""
        kept = self._journal.plans(str(self._official.base_url))
        return judge_plans(kept[:limit], job=self._job)

    def train(
        self,
        plan: Plan,
        *,
        max_cost_usd: Decimal | float | str | None = None,
        run_id: str | None = None,
        progress: Progress | None = None,
        reuse: Reuse | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> Job:
        """Start the planned job, exactly once, and return it at once.

        Where an earlier launch of the same job was never answered, as after a crash, its job is returned instead of a
        second one; a new `run_id` starts another all the same.

        Args:
            plan: What to run.
            max_cost_usd: Refuse if it would cost more, or nobody knows what it costs.
            run_id: A name for this launch; running the same script again then returns the job that it started.
            progress: Told about uploaded bytes.
            reuse: As for `upload`.
            tell: Told in words when the job of an earlier launch is returned because that was never answered, and of
                pauses that the host asks for.

        Raises:
            BudgetError: The limit is too low; nothing was sent.
            UnsupportedError: The plan is another host's, or its model has been shut down; nothing was sent.
            UnavailableError: It is not known whether the job was created; the text says what to do.
        """
        from ftclient.jobs.launch import launch

        plan.check_start(self.host)
        if max_cost_usd is not None:
            plan.check_budget(max_cost_usd)
        send = functools.partial(self.upload, progress=progress, reuse=reuse)
        made = launch(
            self._official, self.host, plan.request, journal=self._journal, run_id=run_id, upload=send, tell=tell
        )
        self._journal.keep_plan(made.run_id, plan.to_json())
        return self._job(made.job.id, made.job)

    def job(self, job_id: str) -> Job:
        """Return a job by its id, from any process.

        Raises:
            JobNotFoundError: The host has no such job.
        """
        job = self._job(job_id)
        job.refresh()
        return job

    def jobs(self, *, limit: int = 20, metadata: Mapping[str, str] | None = None) -> list[Job]:
        """Return the newest jobs, newest first, of all processes and people that use this host or home."""
        from itertools import islice

        chosen: dict[str, Any] = {"metadata": dict(metadata)} if metadata else {}
        with errors_of(self.host):
            listed = self._official.fine_tuning.jobs.list(limit=min(limit, 100), **chosen)
            found = list(islice(checked_items(listed, self.host), limit))
        return [self._job(each.id, each) for each in found]

    def watch(self, jobs: Sequence[Job]) -> list[FineTuningJob]:
        """Show several jobs in one live view until all have ended, and return them as they ended, well or not."""
        from ftclient.view.watch_many import watch_all

        return watch_all(jobs)

    def find_lost(self, *, tell: Callable[[str], None] | None = None) -> list[Launch]:
        """Look for the jobs of launches that were never answered; return those whose outcome is still unknown.

        Those that other processes have under way are among them: `is_under_way`.

        Args:
            tell: Told in words of each job that is found.
        """
        from ftclient.jobs.lost import reconcile

        return reconcile(self._official, self.host, self._journal, tell=tell)

    def forget_launch(self, run_id: str) -> Job | None:
        """Look once more for an unknown launch's job; without one, `train` with this run id may send it again."""
        from ftclient.jobs.lost import forget

        found = forget(self._official, self.host, self._journal, run_id)
        return self._job(found.id, found) if found else None

    def chat(self, /, model: str, prompt: Prompt, *, system: str | None = None, **options: Any) -> str:
        """Return a model's answer as text.

        Args:
            model: Any model of the host, base or tuned.
            prompt: What the user says, or messages.
            system: A system message before it.
            options: Passed on: temperature, max_tokens, seed, ...
        """
        from ftclient.evaluate.chat import answer, messages_of

        return answer(self._official, self.host, model, messages_of(prompt, system=system), options)

    def chat_stream(self, model: str, prompt: Prompt, *, system: str | None = None, **options: Any) -> Iterator[str]:
        """Yield the answer piece by piece as it is written; arguments as for `chat`."""
        from ftclient.evaluate.chat import messages_of, pieces

        return pieces(self._official, self.host, model, messages_of(prompt, system=system), options)

    def evaluate(
        self,
        /,
        data: Dataset,
        *,
        models: Sequence[str],
        progress: EvaluationProgress | None = None,
        announce: Announce | None = None,
        tell: Callable[[str], None] | None = None,
        **wishes: Any,
    ) -> Comparison:
        """Ask each model the questions of a held-out dataset and compare the answers with the expected ones.

        What was answered in an earlier call is not asked again, also if that call was killed.

        Args:
            data: Examples that end with the expected answer.
            models: Whom to ask; further ones are compared with the first.
            progress: Told about answers received, and answers in all.
            announce: Told what is to be asked and what it may cost, before anything is.
            tell: Told in words when the host fails and is asked again after a pause; called by any thread.
            wishes: grader, judge, perplexity, max_cost_usd, max_tokens, fresh, workers, longest_pause_s (see
                `ftclient.evaluate.evaluation.Wishes`).

        Raises:
            BudgetError: It may cost more than `max_cost_usd`, or nobody knows what it costs; nothing was asked.
            DataError: The examples or the grader cannot be used.
        """
        from ftclient.evaluate.evaluation import Wishes, evaluate
        from ftclient.lineage import LineageStore, scores_of

        comparison = evaluate(
            self._official,
            self.host,
            data,
            models=models,
            home=self.home,
            wishes=Wishes(**{"prices": self.prices, **wishes}),
            progress=progress,
            announce=announce,
            tell=tell,
        )
        LineageStore(self.home).keep_scores(str(self._official.base_url), scores_of(comparison, data))
        return comparison

    def feedback(
        self,
        /,
        model: str,
        prompt: Prompt,
        answer: str,
        *,
        verdict: Verdict | None = None,
        correction: str | None = None,
        note: str | None = None,
        redact: bool = True,
    ) -> Feedback:
        """Keep what a user of your application said to an answer; `ftclient feedback export` trains on it.

        Args:
            model: Who answered.
            prompt: What was asked: text, or messages.
            answer: What was answered.
            verdict: `good` or `bad`.
            correction: The answer that should have been given.
            note: Anything else.
            redact: Put placeholders in place of personal data before anything is written.

        Raises:
            DataError: There is neither a verdict nor a correction, or nothing was asked.
        """
        from ftclient.data.redact import find_personal_data
        from ftclient.evaluate.chat import messages_of
        from ftclient.feedback import FeedbackStore

        store = FeedbackStore(self.home, finder=find_personal_data if redact else None)
        said: dict[str, Any] = {"verdict": verdict, "correction": correction, "note": note}
        return store.add(model=model, messages=messages_of(prompt), answer=answer, **said)

    def family(self) -> list[Node]:
        """Return the base models of the host's jobs, each with everything that was tuned from it, data and scores."""
        from ftclient.lineage import LineageStore, tree_of

        base_url, store = str(self._official.base_url), LineageStore(self.home)
        with errors_of(self.host):
            jobs = list(self._official.fine_tuning.jobs.list(limit=100))
        return tree_of(
            jobs,
            sha256_of=self._journal.contents(base_url),
            plans=dict(self._journal.plans(base_url)),
            scores=store.scores(base_url),
            origins=store.origins(),
        )

    def models(self) -> list[Model]:
        """Return the models that this key can use."""
        with errors_of(self.host):
            return list(self._official.models.list())

    def delete_model(self, model: str) -> None:
        """Delete a tuned model for good."""
        self.host.require("model_delete", "delete models")
        with errors_of(self.host):
            self._official.models.delete(model)

    def files(self) -> list[FileObject]:
        """Return the files that the host keeps, newest first."""
        with errors_of(self.host):
            return list(self._official.files.list())

    def delete_file(self, file_id: str) -> None:
        """Delete a file for good."""
        with errors_of(self.host):
            self._official.files.delete(file_id)

    def pull(self, model: str, *, progress: PullProgress | None = None) -> None:
        """Have the local backend download a base model now rather than on first use; elsewhere there is no need."""
        from ftclient.jobs.local import pull

        if self.host.is_local:
            pull(self._official, self.host, model, progress=progress)

    def export(self, /, model: str, *, to: Path | str, form: ExportFormat = "adapter", **options: str) -> list[Path]:
        """Take a model away from the local backend, into a new folder, and return its files.

        Args:
            model: A tuned model, or a base model.
            to: The folder; it must not be there yet, or be empty.
            form: `adapter` (as PEFT reads it), `merged` (whole weights as safetensors), or `gguf`.
            options: quantisation ("f16", "q8_0", "q4_0") of a gguf.

        Raises:
            UnsupportedError: Hosted models cannot be taken away.
            FileExistsError: There is something in the folder.
        """
        from ftclient.jobs.export import export

        return export(self._official, self.host, model, to=Path(to), form=form, options=options)

    def machine(self) -> dict[str, Any]:
        """Return the state of the local backend's machine; {} at other hosts."""
        from ftclient.jobs.local import machine

        return machine(self._official, self.host) if self.host.is_local else {}

    def _job(self, job_id: str, latest: FineTuningJob | None = None) -> Job:
        return Job(self._official, self.host, job_id, watcher=_watch, latest=latest)


def _watch(job: Job) -> FineTuningJob:
    from ftclient.view.watch import watch

    return watch(job)
