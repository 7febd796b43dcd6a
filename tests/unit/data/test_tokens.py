"""Token counts: equal to tiktoken's, by the published formulas, and honest about what is an estimate."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import tiktoken

from ftclient.data import check_examples, vocab
from ftclient.data.limits import context_tokens_of
from ftclient.data.text_counter import TextCounter
from ftclient.data.tokens import count_example, encoding_for, image_tokens
from tests.benchmarks import data_check
from tests.unit.data.test_codes import TOOL, assistant, call, calling, chat, data_url, image, pair, png, system, user


@pytest.fixture(scope="module", params=["o200k_base", "cl100k_base"])
def encoding(request):
    assert vocab.ensure_vocabulary(request.param)
    return tiktoken.get_encoding(request.param)


def formula(encoding, messages):
    """3 a message, role, content, a name and 1; 3 an example."""
    n_tokens = 3
    for message in messages:
        n_tokens += 3 + len(encoding.encode(message["role"])) + len(encoding.encode(message["content"]))
        n_tokens += len(encoding.encode(message["name"])) + 1 if "name" in message else 0
    return n_tokens


@pytest.mark.parametrize(
    "messages",
    [
        [user("Where is my parcel?"), assistant("On its way.")],
        [system("日本語で答えてください。"), user("荷物はどこですか。", name="hanako"), assistant("配送中です。")],
        [{"role": "developer", "content": "Be brief."}, user("a  b\n\n c"), assistant("x", weight=0), assistant("z")],
    ],
)
def test_plain_chats_follow_the_formula(encoding, messages):
    counted = count_example(chat(*messages), encoding.name)
    assert counted.total == formula(encoding, messages)
    assert not counted.is_estimate
    trained = [m["content"] for m in messages if m["role"] == "assistant" and m.get("weight") != 0]
    assert counted.trained == sum(len(encoding.encode(text)) for text in trained)


def test_a_check_counts_as_count_example_does(encoding):
    examples = [
        chat(user("a b"), assistant("c")),
        chat(system(), user(name="Ann"), assistant("c", weight=0), user(), assistant("d")),
        chat(user(), calling(call()), tools=[TOOL]),
        chat(user([{"type": "text", "text": "What?"}, image(detail="low")]), assistant()),
    ]
    tokens = check_examples(examples, is_training=False, encoding=encoding.name).stats["tokens"]
    counted = [count_example(example, encoding.name) for example in examples]
    assert tokens["total"] == sum(count.total for count in counted)
    assert tokens["trained"] == sum(count.trained for count in counted)
    assert tokens["n_estimated_examples"] == 1


@pytest.mark.parametrize("case", list(data_check.FILES))
def test_a_check_finds_the_numbers_of_the_cookbooks_notebook(tmp_path, case):
    """The other side of the benchmark is the oracle: errors, tokens and trained tokens of the same file."""
    path = tmp_path / "lines.jsonl"
    data_check.write(path, data_check.generated(case), 300, is_unique="unique" in case)
    assert data_check.ours(path) == data_check.notebook(path)


def test_tools_follow_the_cookbook(encoding):
    """Per function 7 (gpt-4: 10), properties 3, each 3, an enum -3 and 3 an item, and 12 at the end."""
    function = {
        "name": "move",
        "description": "Moves it.",
        "parameters": {
            "type": "object",
            "properties": {
                "to": {"type": "string", "description": "Where."},
                "how": {"type": "string", "enum": ["slow", "fast"]},
            },
        },
    }
    bare = chat(user("a"), assistant("b"))
    extra = count_example({**bare, "tools": [{"type": "function", "function": function}]}, encoding.name)
    texts = ["move:Moves it", "to:string:Where", "how:string:", "slow", "fast"]
    fixed = {"o200k_base": 7, "cl100k_base": 10}[encoding.name] + 3 + 2 * 3 - 3 + 2 * 3 + 12
    expected = fixed + sum(len(encoding.encode(text)) for text in texts)
    assert extra.total - count_example(bare, encoding.name).total == expected
    assert not extra.is_estimate


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [(1, 1, 255), (512, 512, 255), (513, 512, 425), (1024, 1024, 765), (2048, 4096, 1105), (4096, 8192, 1105)],
)
def test_images_are_counted_by_tiles_of_512_pixels(width, height, tokens):
    assert image_tokens(width, height) == tokens


def test_images_at_low_detail_are_exact_and_of_unknown_size_an_estimate():
    def of(part):
        counted = count_example(chat(user([part]), assistant("b")))
        return counted.total - count_example(chat(user([]), assistant("b"))).total, counted.is_estimate

    assert of(image(detail="low")) == (85, False)
    assert of(image(data_url(png(600, 600)), detail="high")) == (765, False)
    assert of(image("https://example.com/a.png"))[1]


def test_what_nobody_has_published_is_an_estimate():
    assert count_example(pair(), method="dpo").is_estimate
    assert count_example(chat(user(), calling(call()), tools=[TOOL])).is_estimate


@pytest.mark.parametrize(
    ("model", "encoding_name", "context"),
    [
        (None, "o200k_base", None),
        ("gpt-4.1-mini", "o200k_base", 65_536),
        ("ft:gpt-4o-mini-2024-07-18:org::AbCd1234", "o200k_base", 65_536),
        ("gpt-3.5-turbo-0125", "cl100k_base", 16_385),
        ("gpt-4", "cl100k_base", None),
        ("o4-mini-2025-04-16", "o200k_base", None),
        ("smollm2-135m", None, None),
    ],
)
def test_models_have_their_encoding_and_context(model, encoding_name, context):
    assert encoding_for(model) == encoding_name
    assert context_tokens_of(model or "") == context


def test_long_runs_are_counted_and_do_not_overflow(encoding):
    """The library itself panics on a run of a million spaces."""
    counter = TextCounter(encoding.name)
    for text in ("a" * 400_000, " " * 1_000_000 + "x", "あ" * 300_000, "two words " * 60_000):
        assert counter.count_one(text) > 0
    text = "Parcel  42 is\tlate.\n\n  Sorry! " * 9_000
    assert counter.count_one(text) == len(encoding.encode(text))


def test_without_a_vocabulary_the_check_works_and_says_that_nothing_was_counted(tmp_path):
    """No cache, no network, no package index: all of that in a process of its own."""
    code = (
        "import json, sys\n"
        "from ftclient.data import Dataset\n"
        "line = {'messages': [{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}]}\n"
        "print(json.dumps(Dataset([line] * 10).check(model='gpt-4o').to_json()))"
    )
    nowhere = "http://127.0.0.1:9"
    env = {
        **os.environ,
        "TIKTOKEN_CACHE_DIR": str(tmp_path / "cache"),
        **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), nowhere),
        "NO_PROXY": "",
        "no_proxy": "",
        "PIP_INDEX_URL": f"{nowhere}/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
    }
    for seconds in (60, 5):  # the second time the failure is remembered
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert time.monotonic() - start < seconds
        assert '"ok": true' in done.stdout
        assert '"tokens": null' in done.stdout
        assert "not counted" in done.stdout


def test_a_vocabulary_with_a_wrong_content_is_not_used():
    assert vocab._verified(b"evil", vocab.VOCABULARIES["o200k_base"]) is None


def test_hashes_agree_with_those_of_the_library():
    """What this project pins must be what the library accepts, or the cache would be fetched again for ever."""
    for name, vocabulary in vocab.VOCABULARIES.items():
        vocab.ensure_vocabulary(name)
        content = vocab._cache_file(vocabulary).read_bytes()
        assert vocab._verified(content, vocabulary) == content
