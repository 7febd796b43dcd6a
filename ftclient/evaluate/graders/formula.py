"""The formulas of multi graders: arithmetic over sub-rewards, parsed by hand so that nothing else can be said."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|[-+*/^(),]))"
)
_MOST_CHARS = 2_000
_MOST_DEPTH = 40
"""Nesting beyond it is a mistake, and would take the parser's stack."""

_FUNCTIONS: Mapping[str, tuple[Callable[..., float], int | None]] = {
    "min": (min, None),
    "max": (max, None),
    "abs": (abs, 1),
    "floor": (math.floor, 1),
    "ceil": (math.ceil, 1),
    "exp": (math.exp, 1),
    "sqrt": (math.sqrt, 1),
    "log": (math.log, 1),
}
"""Name, and how many arguments it takes (None: one or more)."""

Values = Mapping[str, float]
_Term = Callable[[Values], float]
_Step = tuple[Callable[[float, float], float], _Term]


class FormulaError(ValueError):
    """A formula that cannot be read, or has no value; the text says where and why."""


class Formula:
    """One parsed formula.

    Operators are `+ - * /`, and `^` or `**` for powers; functions min, max, abs, floor, ceil, exp, sqrt and log
    (natural).

    Args:
        text: The formula.
        names: The variables that it may use.

    Raises:
        FormulaError: The text is no formula over these names.
    """

    def __init__(self, text: str, *, names: Sequence[str]) -> None:
        parser = _Parser(text, frozenset(names))
        self._value = parser.whole()
        self.names = frozenset(parser.used)
        """The variables that it does use."""

    def value(self, values: Values) -> float:
        """Return the formula's value.

        Raises:
            FormulaError: It has none for these values (division by zero, the root of a negative number, overflow).
        """
        try:
            found = float(self._value(values))  # rounding gives whole numbers of any size
        except (ArithmeticError, ValueError) as error:
            raise FormulaError(f"the formula has no value here: {error}") from error
        if not math.isfinite(found):
            raise FormulaError("the formula has no value here: the result is not a finite number")
        return found


class _Parser:
    """Recursive descent: sum, product, sign, power, atom."""

    def __init__(self, text: str, names: frozenset[str]) -> None:
        if len(text) > _MOST_CHARS:
            raise FormulaError(f"the formula is longer than {_MOST_CHARS:,} characters")
        self._names = names
        self._tokens = _split(text)
        self._at = 0
        self._depth = 0
        self.used: set[str] = set()

    def whole(self) -> _Term:
        found = self._sum()
        if self._next is not None:
            raise FormulaError(f"{self._next!r} is not expected there")
        return found

    @property
    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, *signs: str) -> str | None:
        found = self._next
        if found is None or found not in signs:
            return None
        self._at += 1
        return found

    def _want(self, sign: str) -> None:
        if self._take(sign) is None:
            raise FormulaError(f"{sign!r} is missing {self._place()}")

    def _place(self) -> str:
        return "at the end" if self._next is None else f"before {self._next!r}"

    def _sum(self) -> _Term:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise FormulaError("the formula is nested too deeply")
        first, rest = self._product(), list[_Step]()
        while sign := self._take("+", "-"):
            rest.append((operator.add if sign == "+" else operator.sub, self._product()))
        self._depth -= 1
        return _chain(first, rest)

    def _product(self) -> _Term:
        first, rest = self._signed(), list[_Step]()
        while sign := self._take("*", "/"):
            rest.append((operator.mul if sign == "*" else operator.truediv, self._signed()))
        return _chain(first, rest)

    def _signed(self) -> _Term:
        factor = 1
        while sign := self._take("+", "-"):
            factor = -factor if sign == "-" else factor
        term = self._power()
        return term if factor == 1 else lambda values: -term(values)

    def _power(self) -> _Term:
        base = self._atom()
        if not self._take("^", "**"):
            return base
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise FormulaError("the formula is nested too deeply")
        exponent = self._signed()  # powers bind from the right: 2^3^2 is 2^9
        self._depth -= 1
        return lambda values: math.pow(base(values), exponent(values))

    def _atom(self) -> _Term:
        if self._take("("):
            inside = self._sum()
            self._want(")")
            return inside
        token = self._next
        if token is None or not (token[0].isalnum() or token[0] in "_."):
            raise FormulaError(f"a number or a name is missing {self._place()}")
        self._at += 1
        if token[0].isalpha() or token[0] == "_":
            return self._call(token) if self._next == "(" else self._variable(token)
        number = float(token)
        return lambda _: number

    def _variable(self, name: str) -> _Term:
        if name not in self._names:
            known = ", ".join(sorted(self._names)) or "there are none"
            raise FormulaError(f"there is no grader {name[:40]!r} (graders: {known[:200]})")
        self.used.add(name)
        return lambda values: float(values[name])

    def _call(self, name: str) -> _Term:
        if name not in _FUNCTIONS:
            raise FormulaError(f"there is no function {name[:40]!r} (functions: {', '.join(_FUNCTIONS)})")
        function, n_wanted = _FUNCTIONS[name]
        self._want("(")
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        self._want(")")
        if n_wanted is not None and len(arguments) != n_wanted:
            raise FormulaError(f"{name} takes one argument, not {len(arguments)}")
        if len(arguments) == 1 and n_wanted is None:
            return arguments[0]
        return lambda values: function(*(argument(values) for argument in arguments))


def _split(text: str) -> list[str]:
    tokens: list[str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at, end)
        if found is None:
            raise FormulaError(f"{text[at:].lstrip()[:1]!r} is no part of a formula")
        tokens.append(found[found.lastgroup or 0])
        at = found.end()
    return tokens


def _chain(first: _Term, rest: Sequence[_Step]) -> _Term:
    """The terms from left to right, in a loop: a call within a call for each would take the stack of long formulas."""
    if not rest:
        return first

    def value(values: Values) -> float:
        found = first(values)
        for operation, term in rest:
            found = operation(found, term(values))
        return found

    return value
