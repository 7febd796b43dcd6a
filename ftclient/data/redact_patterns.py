"""What personal data and secrets look like, and the checks that tell them from mere numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

Accepts = Callable[[str, str], bool]
"""Takes the match and the text around it; says whether the match is what it looks like."""


class Pattern(NamedTuple):
    """One way in which a kind of data is written."""

    kind: str
    regex: re.Pattern[str]
    accepts: Accepts | None = None


_CARD_DIGITS = range(13, 20)
_CARD_STARTS = "3456"  # travel, Visa, Mastercard, others (ISO/IEC 7812); Mastercard's 2-series is tested beside
_MY_NUMBER_DIGITS = 12
_PHONE_DIGITS = range(9, 16)
"""With area code or country code; at most 15 by ITU-T E.164."""

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15,
    "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19,
    "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip
"""Length of an IBAN by country (SWIFT IBAN registry, release 100)."""


def digits_of(text: str) -> str:
    """The digits of a number that is written with separators."""
    return "".join(filter(str.isdigit, text))


def is_card(found: str, _around: str = "") -> bool:
    """A payment card: 13 to 19 digits, a card scheme's first digit, and the check digit of Luhn (ISO/IEC 7812-1)."""
    digits = digits_of(found)
    starts = digits[:1] in _CARD_STARTS or "2221" <= digits[:4] <= "2720"
    return starts and len(digits) in _CARD_DIGITS and len(set(digits)) > 1 and _luhn(digits) == 0


def is_iban(found: str, _around: str = "") -> bool:
    """A bank account: the country's length and remainder 1 by 97 (ISO 13616)."""
    plain = "".join(found.split()).upper()
    if len(plain) != _IBAN_LENGTHS.get(plain[:2]):
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def is_my_number(found: str, around: str) -> bool:
    """Japan's individual number: 12 digits whose last is the check digit, and named so or written in fours."""
    digits = digits_of(found)
    if len(digits) != _MY_NUMBER_DIGITS or my_number_check_digit(digits[:11]) != int(digits[-1]):
        return False
    return not found.isdigit() or _MY_NUMBER_WORDS.search(around) is not None


def my_number_check_digit(digits: str) -> int:
    """The twelfth digit of an individual number by its first eleven (MIC ordinance 85 of 2014, article 5)."""
    # Counted from the right: weights 2 to 7 for the first six, then again 2 to 6.
    total = sum(int(digit) * (n + 1 if n <= 6 else n - 5) for n, digit in enumerate(reversed(digits), 1))  # noqa: PLR2004
    return 0 if total % 11 <= 1 else 11 - total % 11


def _is_phone(found: str, _around: str) -> bool:
    return len(digits_of(found)) in _PHONE_DIGITS


def _is_address(found: str, _around: str) -> bool:
    return all(int(part) <= 255 for part in found.split(".")) and not found.startswith(("0.", "127."))  # noqa: PLR2004  an octet


def _is_secret_value(found: str, _around: str) -> bool:
    is_mixed = any(map(str.isdigit, found)) and any(map(str.isalpha, found)) and len(set(found)) > 5  # noqa: PLR2004
    return is_mixed and _PLACEHOLDER.fullmatch(found) is None


def _luhn(digits: str) -> int:
    total = 0
    for n, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + n % 2)
        total += value if value < 10 else value - 9  # noqa: PLR2004  cross sum
    return total % 10


_PLACEHOLDER = re.compile(r"\[[A-Z_]+_\d+\]\W*")
"""What redaction has put there before."""
_MY_NUMBER_WORDS = re.compile("マイナンバー|個人番号|my ?number", re.IGNORECASE)
_SEPARATOR = r"[ \-\u2010-\u2015\u2212\u30fc]"
_NO_DIGIT_BEFORE = rf"(?<![\d.])(?<!\d{_SEPARATOR})"
_NO_DIGIT_AFTER = rf"(?!{_SEPARATOR}?\d)"
_DOMESTIC = (
    rf"0\d{{1,4}}{_SEPARATOR}\d{{1,4}}{_SEPARATOR}\d{{3,4}}"  # 03-1234-5678, 0120-123-456
    rf"|\(0\d{{1,4}}\) ?\d{{1,4}}{_SEPARATOR}?\d{{3,4}}"  # (03)1234-5678
    r"|0[5789]0\d{8}|0120\d{6}"
)

_SECRETS = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    r"\bsk-(?:proj-|ant-|or-v1-|svcacct-)?[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic, OpenRouter
    r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{40,}|\bglpat-[A-Za-z0-9_-]{20,}",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",  # AWS
    r"\bAIza[0-9A-Za-z_-]{35}",  # Google
    r"\bxox[abposr]-[A-Za-z0-9-]{10,}",  # Slack
    r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}|\bwhsec_[A-Za-z0-9+/=]{24,}",  # Stripe
    r"\bhf_[A-Za-z0-9]{30,}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[A-Za-z0-9_-]{50,}|\bSG\.[\w-]{16,}\.[\w-]{16,}",
    r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",  # JSON web tokens
    r"\b[Bb]earer\s+[A-Za-z0-9._~+/-]{20,}=*",
)
_NAMED = (  # a name of a secret, then its value
    r"(?i:\b(?:api[_ -]?key|secret|access[_ -]?token|auth[_ -]?token|password|passwd|pwd)|パスワード|暗証番号)"
    r"\s*(?:is|は)?\s*[:=\uff1a]\s*[\"']?(?P<value>[^\s\"',;]{8,})"
)

PATTERNS = (
    *(Pattern("secret", re.compile(regex)) for regex in _SECRETS),
    Pattern("secret", re.compile(_NAMED), _is_secret_value),
    Pattern("email", re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")),
    Pattern("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b"), is_iban),
    Pattern("card", re.compile(rf"{_NO_DIGIT_BEFORE}\d(?:{_SEPARATOR}?\d){{12,18}}{_NO_DIGIT_AFTER}"), is_card),
    Pattern(
        "my_number",
        re.compile(rf"{_NO_DIGIT_BEFORE}\d{{4}}{_SEPARATOR}?\d{{4}}{_SEPARATOR}?\d{{4}}{_NO_DIGIT_AFTER}"),
        is_my_number,
    ),
    Pattern(
        "us_ssn", re.compile(rf"{_NO_DIGIT_BEFORE}(?!000|666|9)\d{{3}}-(?!00)\d{{2}}-(?!0000)\d{{4}}{_NO_DIGIT_AFTER}")
    ),
    Pattern(
        "phone", re.compile(rf"(?<!\w)\+\d{{1,3}}(?:{_SEPARATOR}|\(0?\))?\(?\d(?:[ \-.()]{{0,2}}\d){{6,13}}"), _is_phone
    ),
    Pattern("phone", re.compile(rf"{_NO_DIGIT_BEFORE}(?:{_DOMESTIC}){_NO_DIGIT_AFTER}"), _is_phone),
    Pattern(
        "phone",
        re.compile(rf"{_NO_DIGIT_BEFORE}(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])[2-9]\d\d[-.]\d{{4}}{_NO_DIGIT_AFTER}"),
    ),
    Pattern("ip_address", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"), _is_address),
)
"""Tried in this order; what one has found the next ones do not see."""
