"""What a terminal shows while models are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import Self

from ftclient.cli.session import err

if TYPE_CHECKING:
    from rich.progress import Progress


class AskingBar:
    """A bar of answers on a terminal; it goes away when all have answered, so that other things can be shown."""

    def __init__(self) -> None:
        self._shown: Progress | None = None

    def __enter__(self) -> Self:
        """Return the bar itself; nothing is shown yet."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Take the bar away."""
        self._end()

    def start(self) -> None:
        """Show that answers are waited for, before their number is known."""
        if self._shown is None and err().is_terminal:
            self._shown = _new_bar()

    def tell(self, done: int, total: int) -> None:
        """Move the bar."""
        self.start()
        if self._shown is not None:
            self._shown.update(self._shown.task_ids[0], completed=done, total=total)
        if done == total:
            self._end()

    def _end(self) -> None:
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.stop()


def _new_bar() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("Asking"), BarColumn(), MofNCompleteColumn(), TextColumn("answers"))
    bar = Progress(*columns, console=err(), transient=True)
    bar.add_task("", total=None)
    bar.start()
    return bar
