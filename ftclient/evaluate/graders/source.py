"""The source of a python grader: whether it defines a `grade` that can be called."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_GIVEN = 2
"""`grade` is called with the sample and the item, by position."""
_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
"""What is defined inside of these is not at the top level."""


def check_source(text: str) -> None:
    """Refuse a source without a function `grade(sample, item)` that can be called from outside.

    Raises:
        ValueError: The text says what is wrong, and in which line.
    """
    try:
        tree = ast.parse(text)
        functions = list(_named_grade(ast.walk(tree)))
        outer = list(_named_grade(_top_level(tree)))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"the source cannot be read as Python: {error}") from error
    if not functions:
        raise ValueError("the source must define a function grade(sample, item)")
    if not outer:
        raise ValueError(
            f"grade in line {functions[0].lineno} is inside of a function or class, where it cannot be called: "
            "define grade(sample, item) at the top level of the source"
        )
    last = outer[-1]  # a later definition takes the name
    if not _takes_both(last.args):
        raise ValueError(f"grade in line {last.lineno} must take two arguments: grade(sample, item)")


def _named_grade(nodes: Iterator[ast.AST]) -> Iterator[ast.FunctionDef]:
    return (node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == "grade")


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes that run when the source does, those below `if`, `try` and `with` too, in the order of the text."""
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        yield node
        if not isinstance(node, _INNER):
            left += reversed(list(ast.iter_child_nodes(node)))


def _takes_both(arguments: ast.arguments) -> bool:
    names = [*arguments.posonlyargs, *arguments.args]
    n_needed = len(names) - len(arguments.defaults)
    has_room = len(names) >= _GIVEN or arguments.vararg is not None
    return has_room and n_needed <= _GIVEN and all(default is not None for default in arguments.kw_defaults)
