"""Describing any lines ends in a verdict, a page and a screen."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ftclient.data.describe import LANGS, describe
from tests.property.prepare.strategies import EXAMPLE_LIKE, JSON, chats

LINES = st.lists(
    st.binary(max_size=30) | (chats() | EXAMPLE_LIKE | JSON).map(lambda v: json.dumps(v).encode()), max_size=8
)


@settings(max_examples=40)
@given(LINES, st.sampled_from(["supervised", "dpo", "reinforcement"]), st.sampled_from(LANGS))
def test_any_file_can_be_described(lines, method, lang):
    with TemporaryDirectory() as folder:
        source = Path(folder) / "a.jsonl"
        source.write_bytes(b"\n".join(lines))
        description = describe(source, method=method)
        page = description.write_html(Path(folder) / "a.html", lang=lang).read_text()
    assert page.endswith("</html>\n")
    json.dumps(description.to_json())
    Console(file=StringIO(), width=60).print(description)
    assert [advice.rank for advice in description.verdict] == sorted(advice.rank for advice in description.verdict)
