"""Tables for terminals of any width: no cell is cut short, as rich would do where there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_ANY_WIDTH = 10_000


@dataclass(frozen=True, kw_only=True)
class Cells:
    """What a table shows. The first cell of each row names it."""

    title: str
    caption: str
    names: Sequence[str]
    rows: Sequence[Sequence[Text]]
    """A cell for each name; cells may have several lines."""
    n_left: int = 1
    """Columns that begin at the left; further ones end at the right, as figures do."""

    def as_table(self, *, is_narrow: bool = False) -> Table:
        """Return a table that is as wide as its cells.

        Args:
            is_narrow: Put each word of a heading on a line of its own.
        """
        table = Table(title=self.title, caption=self.caption, title_justify="left", caption_justify="left")
        for at, name in enumerate(self.names):
            header = name.replace(" ", "\n") if is_narrow else name
            lines = [line for text in (header, *(row[at].plain for row in self.rows)) for line in text.split("\n")]
            width = max(map(cell_len, lines))
            table.add_column(header, justify="left" if at < self.n_left else "right", no_wrap=True, min_width=width)
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_list(self) -> RenderableType:
        """Return each row as its name, and under it a line for each figure."""
        return Group(Text(self.title, style="italic"), *map(self._listed, self.rows), Text(self.caption, style="dim"))

    def _listed(self, row: Sequence[Text]) -> RenderableType:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim", overflow="fold")
        grid.add_column(overflow="fold")
        for name, cell in zip(self.names[1:], row[1:], strict=True):
            first, *more = cell.split("\n")
            grid.add_row(name, Text.assemble(first, *(part for each in more for part in (" (", each, ")"))))
        return Group(row[0], Padding(grid, (0, 0, 0, 2), expand=False))


@dataclass(frozen=True)
class FirstThatFits:
    """Prints the first of several layouts that is no wider than the terminal; the last one has to fit in any case."""

    layouts: Sequence[RenderableType]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose by the width there is."""
        wide = options.update(width=_ANY_WIDTH)
        *others, last = self.layouts
        fitting = (each for each in others if Measurement.get(console, wide, each).minimum <= options.max_width)
        yield next(fitting, last)
