"""How the family tree of models looks in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

if TYPE_CHECKING:
    from ftclient.lineage.store import Scored
    from ftclient.lineage.tree import Node

_SHOWN_SHA = 12


def render(nodes: Sequence[Node]) -> RenderableType:
    """Return the trees of all bases, with data, settings and scores at each model."""
    return Group(*(_tree(node) for node in nodes))


def _tree(node: Node, above: Tree | None = None) -> Tree:
    label = Text("\n").join([Text(node.model, style="bold"), *(Text(line, style="dim") for line in _lines(node))])
    tree = Tree(label) if above is None else above.add(label)
    for child in node.children:
        _tree(child, tree)
    return tree


def _lines(node: Node) -> list[str]:
    lines = []
    if node.job_id:
        settings = ", ".join(f"{name} {_value(value)}" for name, value in node.settings.items())
        lines.append(f"{node.job_id}: {settings}")
        lines.append(f"data {_data(node)}")
    return [*lines, *map(_score, node.scores)]


def _value(value: object) -> str:
    """A setting in a line; of a way of tuning its type and its numbers."""
    if not isinstance(value, dict):
        return str(value)
    kind, *rest = [f"{value.get('type', '')}"] + [f"{key} {each}" for key, each in value.items() if key != "type"]
    return f"{kind} ({', '.join(rest)})" if rest else kind


def _data(node: Node) -> str:
    name = f"sha256 {node.data_sha256[:_SHOWN_SHA]}" if node.data_sha256 else str(node.data_file)
    made_of = node.made_of
    if made_of is None:
        return name
    parents = " and ".join(parent[:_SHOWN_SHA] for parent in made_of.parents)
    n = len(made_of.feedback)
    more = f"{n} piece{'' if n == 1 else 's'} of feedback"
    return f"{name} ({made_of.name}: {f'{parents} and {more}' if parents else more})"


def _score(score: Scored) -> str:
    return (
        f"{score.metric} {score.value:.3f} ({score.low:.3f} to {score.high:.3f}) on {score.n} questions of "
        f"{score.data_name} ({score.data_sha256[:_SHOWN_SHA]})"
    )
