"""The formulas of multi graders: they compute what Python computes, and nothing else can be said in them."""

from __future__ import annotations

import math
import random

import pytest

from ftclient.evaluate.graders.formula import Formula, FormulaError

VALUES = {"name": 0.5, "email": 1.0, "x_1": 0.25}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(name + email) / 2", 0.75),  # OpenAI's guide to graders
        ("0.5 * name + 0.5 * email", 0.75),
        ("2 ^ 3 ^ 2", 512),
        ("2 ** -1", 0.5),
        ("-2 ^ 2", -4),
        ("2 - 3 - 4", -5),
        ("8 / 4 / 2", 1),
        ("- -x_1", 0.25),
        ("1e-1 + .5", 0.6),
        ("min(name, email, x_1) + max(name)", 0.75),
        ("abs(-3) + floor(1.7) + ceil(1.2) + sqrt(9)", 9),
        ("exp(log(2))", 2),
        ("  name  ", 0.5),
    ],
)
def test_a_formula_has_its_value(text, value):
    assert Formula(text, names=list(VALUES)).value(VALUES) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing at the end"),
        ("name +", "missing at the end"),
        ("(name", "')' is missing"),
        ("name email", "'email' is not expected"),
        ("other", "no grader 'other'"),
        ("round(name)", "no function 'round'"),
        ("__import__('os')", "no part of a formula"),
        ("name.real", "no part"),
        ("name[0]", "no part"),
        ("name if email else 0", "not expected"),
        ("sqrt(1, 2)", "one argument"),
        ("min()", "a number or a name is missing"),
        ("(" * 100 + "1" + ")" * 100, "nested too deeply"),
        ("2" + "^2" * 200, "nested too deeply"),
        ("1+" * 2000 + "1", "longer than"),
    ],
)
def test_what_is_no_formula_is_refused_with_its_place(text, words):
    with pytest.raises(FormulaError, match="(?s)" + words.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")):
        Formula(text, names=list(VALUES))


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0",
        "sqrt(0 - 1)",
        "log(0)",
        "(0-8) ^ 0.5",
        "10 ^ 10 ^ 10",
        "exp(10000)",
        "1e308 * 10",
        "floor(1e200) * ceil(1e200)",
    ],
)
def test_a_formula_without_a_value_says_so(text):
    with pytest.raises(FormulaError, match="no value"):
        Formula(text, names=[]).value({})


@pytest.mark.parametrize(("sign", "value"), [("+", 990.0), ("*", 1.0), ("-", -988.0), ("/", 1.0)])
def test_a_formula_of_many_terms_has_a_value(sign, value):
    assert Formula(sign.join(["a"] * 990), names=["a"]).value({"a": 1.0}) == value


def test_random_formulas_agree_with_python():
    dice = random.Random(7)

    def term(depth: int) -> str:
        if depth == 0:
            return dice.choice(["a", "b", f"{dice.uniform(0.1, 3):.3f}"])
        left, right = term(depth - 1), term(depth - 1)
        return dice.choice(
            [
                f"({left} + {right})",
                f"{left} - {right}",
                f"{left} * {right}",
                f"-{left}",
                f"min({left}, {right})",
                f"abs({left})",
            ]
        )

    for _ in range(300):
        text, values = term(4), {"a": dice.uniform(-2, 2), "b": dice.uniform(-2, 2)}
        expected = eval(text, {"min": min, "abs": abs}, dict(values))  # noqa: S307 - our own text
        assert math.isclose(Formula(text, names=["a", "b"]).value(values), expected, rel_tol=1e-9, abs_tol=1e-9), text
