"""Rendering many examples at once against the slow way: transformers' own call for each text, one text at a time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_backend.engine.rows import read_rows
from local_backend.engine.template import Template
from local_backend.task import JobError, UserError
from tests.training import test_template as templates
from tests.training.tiny import chat, tiny_tokenizer, write_jsonl

KINDS = ["CHATML", "NO_END", "END_WITH_NEXT", "REWRITES_HISTORY", "NO_PREFIX", "KNOWS_TOOLS"]
RENDERERS = {kind: Template(tiny_tokenizer(getattr(templates, kind))) for kind in KINDS}
CONTEXT = 100_000


class Slow:
    """One example by `apply_chat_template` and the tokenizer, each asked for one text at a time."""

    def __init__(self, tokenizer, example):
        self.tokenizer, self.messages, self.tools = tokenizer, example["messages"], example.get("tools")
        self.special = set(tokenizer.all_special_ids)

    def sequences(self):
        """Ids and weights, as many as `Template.render` has sequences; None where it refuses."""
        turns = [i for i, message in enumerate(self.messages) if self.weight(i) > 0]
        try:
            whole = self.text(len(self.messages))
            if not whole:
                return None
            borders = [text for i in turns for text in (self.text(i, opens=True), self.text(i + 1))]
            if turns and all(whole.startswith(text) for text in borders):
                return [self.sequence(len(self.messages), turns)]
            return [self.sequence(i + 1, [i]) for i in turns] or None
        except ValueError:  # the messages, or a prompt that is written differently once it is answered
            return None

    def prompt(self):
        try:
            return self.ids(self.text(len(self.messages), opens=True))
        except ValueError:
            return None

    def weight(self, i):
        message = self.messages[i]
        return float(message.get("weight", 1)) if message["role"] == "assistant" else 0.0

    def text(self, n, *, opens=False):
        return self.tokenizer.apply_chat_template(
            self.messages[:n], tools=self.tools, tokenize=False, add_generation_prompt=opens
        )

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def sequence(self, n, turns):
        whole, done, ids, spans = self.text(n), 0, [], []
        for i in turns:
            before, after = self.text(i, opens=True), self.text(i + 1)
            if not whole.startswith(before):
                raise ValueError(before)
            ids += self.ids(whole[done : len(before)])
            answer = self.ids(whole[len(before) : len(after)])
            spans.append((len(ids), len(ids) + len(answer), self.weight(i)))
            ids, done = ids + answer, len(after)
        ids += self.ids(whole[done:])
        return self.weighted(ids, spans, ends_with_answer=turns[-1] == n - 1)

    def weighted(self, ids, spans, *, ends_with_answer):
        eos, weights = self.tokenizer.eos_token_id, [0.0] * len(ids)
        for start, end, weight in spans:
            stops = [k for k in range(start, end) if ids[k] == eos]
            stops = stops or [k for k in range(start, end) if ids[k] in self.special]
            if stops:
                stop = stops[-1] + 1
            elif end < len(ids):
                stop = end + (ids[end] in self.special)
            else:
                stop = end + ends_with_answer
                ids, weights = ids + [eos] * ends_with_answer, weights + [0.0] * ends_with_answer
            weights[start:stop] = [weight] * (stop - start)
        weights[0] = 0.0
        return ids, weights


CONTENTS = st.sampled_from(["", "Yes", "One? two", "京都は\n", "a<|im_end|>b", "<think>hm</think> ok", "No /think 2"])
FURTHER = st.sampled_from([{}, {}, {}, {"name": "bob"}, {"reasoning_content": "because"}])


@st.composite
def examples(draw):
    messages = []
    for _ in range(draw(st.integers(0, 5))):
        role = draw(st.sampled_from(["system", "user", "assistant", "assistant"]))
        message = {"role": role, "content": draw(CONTENTS), **draw(FURTHER)}
        if role == "assistant":
            message |= draw(st.sampled_from([{}, {}, {"weight": 0}, {"weight": 0.5}]))
        messages.append(message)
    return {"messages": messages}


def found(ask):
    """What a renderer says; None where it refuses with words."""
    try:
        return ask()
    except UserError:
        return None


def rendered(renderer, example):
    return found(lambda: [(one.ids, one.weights) for one in renderer.render(example)])


@pytest.mark.parametrize("kind", KINDS)
@given(example=examples())
@settings(max_examples=150)
def test_an_example_and_a_prompt_are_what_transformers_makes_of_each_text_by_itself(kind, example):
    renderer = RENDERERS[kind]
    slow = Slow(renderer.tokenizer, example)
    assert rendered(renderer, example) == slow.sequences()
    assert found(lambda: renderer.prompt(example["messages"])) == slow.prompt()


@pytest.mark.parametrize("kind", ["REWRITES_HISTORY", "KNOWS_TOOLS"])
def test_an_answer_to_nothing_is_refused_as_transformers_does(kind):
    """Templates write something even then, a default system prompt say: nothing that a chat ever begins with."""
    with pytest.raises(UserError, match="empty conversation"):
        RENDERERS[kind].render({"messages": [{"role": "assistant", "content": "Yes"}]})
    with pytest.raises(UserError, match="empty conversation"):
        RENDERERS[kind].prompt([])


def test_tools_are_what_transformers_makes_of_them():
    renderer = RENDERERS["KNOWS_TOOLS"]
    example = {"messages": templates.TWO_TURNS, "tools": [templates.TOOL]}
    assert rendered(renderer, example) == Slow(renderer.tokenizer, example).sequences()


@pytest.mark.parametrize("kind", ["CHATML", "REWRITES_HISTORY"])
def test_rows_of_a_large_file_are_those_of_its_examples_by_themselves(kind, tmp_path):
    renderer = RENDERERS[kind]
    some = [{"messages": templates.TWO_TURNS[:n]} for n in (3, 5)]
    lines = [chat(f"Ask {i % 97}", f"Say {i % 89}") if i % 3 else some[i % 2] for i in range(4_500)]
    file = write_jsonl(tmp_path / "many.jsonl", lines)
    rows = read_rows(file, template=renderer, context_tokens=CONTEXT, method="supervised", param="training_file")
    assert [row.line for row in rows] == list(range(1, 4_501))
    assert [list(row.parts) for row in rows] == [renderer.render(line) for line in lines]


def test_pairs_of_a_large_file_are_those_of_its_examples_by_themselves(tmp_path):
    renderer = RENDERERS["CHATML"]
    lines = [
        {
            "input": {"messages": [{"role": "user", "content": f"Ask {i}"}]},
            "preferred_output": [{"role": "assistant", "content": f"Yes {i % 7}"}],
            "non_preferred_output": [{"role": "assistant", "content": "No"}],
        }
        for i in range(2_100)
    ]
    file = write_jsonl(tmp_path / "pairs.jsonl", lines)
    rows = read_rows(file, template=renderer, context_tokens=CONTEXT, method="dpo", param="training_file")
    assert [row.parts for row in rows] == [renderer.render_pair(line) for line in lines]


@pytest.mark.parametrize("bad_lines", [(1, 2), (500, 501), (2_001,), (4_321, 4_400)])
def test_the_first_bad_line_of_a_large_file_is_named(bad_lines, tmp_path):
    lines = [chat("Ask", "Say")] * 4_500
    for bad in bad_lines:
        lines[bad - 1] = {"messages": [{"role": "user", "content": "Nobody answers"}]}
    file = write_jsonl(tmp_path / "bad.jsonl", lines)
    with pytest.raises(JobError, match=f"Line {bad_lines[0]}: No token of this example is trained"):
        read_rows(
            file, template=RENDERERS["CHATML"], context_tokens=CONTEXT, method="supervised", param="training_file"
        )
