"""The real MiniLM, by name: fetched, tuned and asked, as the example shows it."""

import re
import sys

import pytest

from tests.e2e.serving import run_program


@pytest.mark.slow
def test_the_example_of_a_text_classifier_sorts_letters(tmp_path):
    printed = run_program(sys.executable, "examples/15_text_classifier.py", home=tmp_path)
    assert re.search(r"^Tuned model: ft:minilm-l6:personal::\w{8}$", printed, flags=re.MULTILINE)
    (percent,) = re.findall(r"^Validation: (\d+)% right, macro F1 0\.\d\d, 7 queues$", printed, flags=re.MULTILINE)
    assert int(percent) >= 85
    shares = re.findall(r"^ +([\d.]+)%  ([A-Z]+)$", printed, flags=re.MULTILINE)
    assert len(shares) == 3
    assert f"It answers: {shares[0][1]}" in printed
