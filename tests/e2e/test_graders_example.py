"""The example with graders runs to its end, as a user would start it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.e2e.serving import ROOT, run_program, simulated_server


def test_12_grades_answers(tmp_path: Path) -> None:
    script = str(ROOT / "examples" / "12_graders.py")
    with simulated_server(tmp_path / "server") as url:
        printed = run_program(sys.executable, script, home=tmp_path, FTCLIENT_BACKEND=url)
    right, wrong, prose = re.findall(r"^(\d\.\d\d) \{", printed, flags=re.MULTILINE)
    assert (right, wrong, prose) == ("1.00", "0.20", "0.20")
    assert "ticket" in printed
    assert "1 held-out questions" in printed
