"""The tables. `seq` columns give each kind of thing its order; ids are what the API shows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Boolean, Float, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    """Root of all tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
        int: Integer,
        float: Float,
        bool: Boolean,
        str: String,
    }


class MetaRow(Table):
    """Facts about the store itself: the version of its format."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class FileRow(Table):
    """A file. Deleted ones stay as tombstones, so that a listing can go on after them."""

    __tablename__ = "files"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    bytes: Mapped[int]
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    filename: Mapped[str]
    purpose: Mapped[str]
    status: Mapped[str]
    status_details: Mapped[str | None]
    sha256: Mapped[str] = mapped_column(index=True)
    deleted: Mapped[bool] = mapped_column(default=False)


class UploadRow(Table):
    """A file that arrives in parts."""

    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int]
    created_at: Mapped[int]
    expires_at: Mapped[int]
    filename: Mapped[str]
    purpose: Mapped[str]
    mime_type: Mapped[str]
    status: Mapped[str]
    file_lifetime_s: Mapped[int | None]
    file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id"))


class PartRow(Table):
    """One part of an upload; its bytes lie in the upload's folder under its id."""

    __tablename__ = "upload_parts"
    id: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"), index=True)
    bytes: Mapped[int]
    created_at: Mapped[int]


class JobRow(Table):
    """A fine-tuning job."""

    __tablename__ = "jobs"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[int]
    finished_at: Mapped[int | None]
    model: Mapped[str]
    """Canonical base model, or the tuned model that it starts from."""
    fine_tuned_model: Mapped[str | None]
    status: Mapped[str] = mapped_column(index=True)
    training_file: Mapped[str]
    training_sha256: Mapped[str]
    validation_file: Mapped[str | None]
    validation_sha256: Mapped[str | None]
    result_files: Mapped[list[str]]
    trained_tokens: Mapped[int | None]
    error: Mapped[dict[str, Any] | None]
    method: Mapped[str]
    hyperparameters: Mapped[dict[str, Any]]
    """As given at first ("auto" or numbers), numbers once the files are validated."""
    seed: Mapped[int]
    suffix: Mapped[str | None]
    job_metadata: Mapped[dict[str, Any] | None]
    integrations: Mapped[list[Any]]
    local: Mapped[dict[str, Any]]
    engine: Mapped[str]
    """What trains it; a home may have been opened with another engine since."""
    validated: Mapped[bool] = mapped_column(default=False)
    owner: Mapped[str | None]
    """The run of a runner that works on it; None: nobody does."""
    attempts: Mapped[int] = mapped_column(default=0)
    """How often it was taken up since its last new step."""
    facts: Mapped[dict[str, Any]]
    progress: Mapped[dict[str, Any]]
    notes: Mapped[list[str]]


class EventRow(Table):
    """One event of a job. `step` is set on metrics only, where it is unique."""

    __tablename__ = "events"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[int]
    level: Mapped[str]
    message: Mapped[str]
    type: Mapped[str]
    data: Mapped[dict[str, Any] | None]
    step: Mapped[int | None]
    __table_args__ = (UniqueConstraint("job_id", "step"), Index("events_of_job", "job_id", "seq"))


class CheckpointRow(Table):
    """A usable model as it stood after a step. It is shown once the job has ended or paused."""

    __tablename__ = "checkpoints"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[int]
    step_number: Mapped[int]
    metrics: Mapped[dict[str, Any]]
    model_dir: Mapped[str]
    model: Mapped[str | None]
    """Name under which it can be used; None as long as it is not shown."""
    __table_args__ = (UniqueConstraint("job_id", "step_number"),)


class ModelRow(Table):
    """A tuned model or checkpoint that can be talked to."""

    __tablename__ = "models"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    created: Mapped[int]
    base: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    engine: Mapped[str]
    model_dir: Mapped[str]
    deleted: Mapped[bool] = mapped_column(default=False)


class PermissionRow(Table):
    """A project that may use a checkpoint; kept for the contract's sake, one machine has one project."""

    __tablename__ = "permissions"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    checkpoint: Mapped[str] = mapped_column(index=True)
    created_at: Mapped[int]
    project_id: Mapped[str]
    deleted: Mapped[bool] = mapped_column(default=False)


class AnswerRow(Table):
    """The answer to a request that carried an Idempotency-Key."""

    __tablename__ = "answers"
    key: Mapped[str] = mapped_column(primary_key=True)
    """Endpoint and Idempotency-Key."""
    body_sha256: Mapped[str]
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[int]


class RunnerRow(Table):
    """The runner of this home, for people and for the detection of hangs; who holds the lock file is the truth."""

    __tablename__ = "runner"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    pid: Mapped[int]
    heartbeat_at: Mapped[float]
    job: Mapped[str | None]
