"""The renderer: what is trained, to the token, under templates of every kind."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_backend.engine.template import Template, show
from local_backend.task import UserError
from tests.training.tiny import tiny_tokenizer

CHATML = tiny_tokenizer().chat_template
NO_END = (
    "{% for message in messages %}{% if message.role == 'user' %}Q: {{ message.content }}\nA: "
    "{% else %}{{ message.content }}{% endif %}{% endfor %}"
)
END_WITH_NEXT = (
    "{% for message in messages %}{% if message.role == 'user' %}{% if not loop.first %}<|im_end|>{% endif %}"
    "Q: {{ message.content }}\nA: {% else %}{{ message.content }}{% endif %}{% endfor %}"
)
REWRITES_HISTORY = (
    "{% for message in messages %}{% if message.role == 'assistant' and not loop.last %}"
    "<|im_start|>assistant\n{{ message.content.split('/think ')[-1] }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = CHATML.replace("{% for message in messages %}", "{% for message in messages if message.role != 'system' %}")
DEAF = CHATML.replace("message.content", "('' if message.role == 'assistant' else message.content)")
TAKES_SWITCHES = (
    "{% set said = messages[0].content if messages[0].role == 'system' else '' %}"
    "<|im_start|>system\nThinking: {{ 'off' if '/no_think' in said else 'on' }}\n"
    "{{ said.replace('/no_think', '').strip() }}<|im_end|>\n"
) + NO_SYSTEM
"""As SmolLM3 does; it knows no second system message."""
NO_PREFIX = (
    "{% if add_generation_prompt %}ASK {% endif %}{% for message in messages %}{{ message.content }}{% endfor %}"
)
KNOWS_TOOLS = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}{% for call in message.tool_calls or [] %}{{ call.function.name }}"
    "{{ call.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

TWO_TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Yes /think 1"},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "No /think 2"},
]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"place": "Kyōto"}'}}


def template(text=CHATML):
    return Template(tiny_tokenizer(text))


def trained_text(rendered, renderer):
    """What is trained, as text, with its weights."""
    pieces = []
    for token in show(rendered, renderer.tokenizer):
        if token["weight"]:
            if pieces and pieces[-1][1] == token["weight"] and pieces[-1][2] == "open":
                pieces[-1][0].append(token["id"])
            else:
                pieces.append([[token["id"]], token["weight"], "open"])
        elif pieces:
            pieces[-1][2] = "closed"
    return [(renderer.tokenizer.decode(ids), weight) for ids, weight, _ in pieces]


def test_answers_and_their_ends_are_trained_and_nothing_else():
    renderer = template()
    (rendered,) = renderer.render({"messages": TWO_TURNS})
    assert trained_text(rendered, renderer) == [("Yes /think 1<|im_end|>", 1.0), ("No /think 2<|im_end|>", 1.0)]


def test_weights_of_messages_are_kept_and_zero_is_not_trained():
    messages = [dict(message) for message in TWO_TURNS]
    messages[2]["weight"], messages[4]["weight"] = 0, 0.25
    (rendered,) = template().render({"messages": messages})
    assert trained_text(rendered, template()) == [("No /think 2<|im_end|>", 0.25)]


def test_the_training_prompt_is_the_prompt_of_generation():
    renderer = template()
    (rendered,) = renderer.render({"messages": TWO_TURNS})
    prompt = renderer.prompt(TWO_TURNS[:-1])
    assert rendered.ids[: len(prompt)] == prompt
    assert rendered.weights[len(prompt)] == 1.0
    assert rendered.ids.count(0) == 1, "exactly one BOS"


def test_a_template_that_never_ends_an_answer_gets_an_end_to_train():
    renderer = template(NO_END)
    (rendered,) = renderer.render({"messages": TWO_TURNS[1:3]})
    assert trained_text(rendered, renderer) == [("Yes /think 1<|im_end|>", 1.0)]


def test_an_end_that_the_next_turn_writes_is_trained():
    renderer = template(END_WITH_NEXT)
    (rendered,) = renderer.render({"messages": TWO_TURNS[1:]})
    assert trained_text(rendered, renderer) == [("Yes /think 1<|im_end|>", 1.0), ("No /think 2<|im_end|>", 1.0)]


def test_a_template_that_rewrites_history_is_rendered_a_turn_at_a_time():
    renderer = template(REWRITES_HISTORY)
    first, second = renderer.render({"messages": TWO_TURNS})
    assert trained_text(first, renderer) == [("Yes /think 1<|im_end|>", 1.0)]
    assert trained_text(second, renderer) == [("No /think 2<|im_end|>", 1.0)]
    assert second.ids[: len(renderer.prompt(TWO_TURNS[:-1]))] == renderer.prompt(TWO_TURNS[:-1])


def test_a_template_that_is_no_prefix_of_itself_is_refused():
    with pytest.raises(UserError, match="writes a prompt differently once it is answered"):
        template(NO_PREFIX).render({"messages": TWO_TURNS})


@pytest.mark.parametrize("change", [{"tools": [TOOL]}, {"functions": [TOOL["function"]]}])
def test_tools_that_a_template_would_drop_are_refused(change):
    with pytest.raises(UserError, match="no place for tools"):
        template().render({"messages": TWO_TURNS, **change})


@pytest.mark.parametrize(
    ("messages", "tools"),
    [
        (TWO_TURNS[1:2], [TOOL]),
        ([TWO_TURNS[1], {"role": "assistant", "content": None, "tool_calls": [CALL]}, TWO_TURNS[3]], []),
        ([{"role": "user", "content": "What does look_up do?"}], [TOOL]),
    ],
    ids=["offered", "called before", "named in the question"],
)
def test_a_question_whose_tools_a_template_would_drop_is_refused(messages, tools):
    """The model would answer as if there were none."""
    with pytest.raises(UserError, match=r"no place for tools .`look_up` would be left out") as caught:
        template().prompt(messages, tools)
    assert (caught.value.code, caught.value.param) == ("model_not_supported", "tools")
    renderer = template(KNOWS_TOOLS)
    assert "look_up" in renderer.tokenizer.decode(renderer.prompt(messages, tools))


@pytest.mark.parametrize("tool", [{"type": "custom"}, {"type": "function", "function": {}}, {"function": "look_up"}])
def test_a_tool_without_a_name_is_refused(tool):
    with pytest.raises(UserError, match="a function with a name") as caught:
        template(KNOWS_TOOLS).prompt(TWO_TURNS[1:2], [tool])
    assert (caught.value.code, caught.value.param) == ("invalid_value", "tools")


def test_tools_and_calls_reach_a_template_that_knows_them():
    renderer = template(KNOWS_TOOLS)
    messages = [TWO_TURNS[1], {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    (rendered,) = renderer.render({"messages": messages, "tools": [TOOL]})
    assert trained_text(rendered, renderer) == [('look_up{"place": "Kyōto"}<|im_end|>', 1.0)]
    assert '"type": "object"' in renderer.tokenizer.decode(rendered.ids)


def test_broken_arguments_of_an_earlier_answer_are_read_as_they_are():
    call = {"type": "function", "function": {"name": "look_up", "arguments": '{"place": '}}
    messages = [TWO_TURNS[1], {"role": "assistant", "content": None, "tool_calls": [call]}, TWO_TURNS[3]]
    renderer = template(KNOWS_TOOLS)
    assert 'look_up"{\\"place\\": "' in renderer.tokenizer.decode(renderer.prompt(messages))


def test_an_example_without_trained_tokens_is_refused():
    with pytest.raises(UserError, match="No token of this example is trained"):
        template().render({"messages": TWO_TURNS[:2]})


def test_parts_roles_and_refusals_become_what_templates_know():
    renderer = template()
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
        {"role": "user", "content": "Hm?"},
        {"role": "assistant", "refusal": "I can't."},
    ]
    (rendered,) = renderer.render({"messages": messages})
    text = renderer.tokenizer.decode(rendered.ids)
    assert "<|im_start|>system\nBe kind.<|im_end|>" in text
    assert trained_text(rendered, renderer) == [("I can't.<|im_end|>", 1.0)]


def test_images_are_refused_by_a_text_model():
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, TWO_TURNS[2]]
    with pytest.raises(UserError, match="reads text only"):
        template().render({"messages": messages})


@pytest.mark.parametrize(("text", "left_out"), [(NO_SYSTEM, "message 1 (system)"), (DEAF, "message 3 (assistant)")])
def test_a_template_that_leaves_a_message_out_is_refused(text, left_out):
    """It is the wrong one for these data: the run would go well, and teach something else."""
    with pytest.raises(UserError, match=re.escape(f"leaves out what {left_out} says")):
        template(text).render({"messages": TWO_TURNS})
    pair = {
        "input": {"messages": TWO_TURNS[:2]},
        "preferred_output": [TWO_TURNS[2]],
        "non_preferred_output": [TWO_TURNS[4]],
    }
    with pytest.raises(UserError, match=re.escape(f"leaves out what {left_out} says")):
        template(text).render_pair(pair)


def test_a_prompt_whose_system_message_would_be_left_out_is_refused():
    """As training refuses it: the model would answer as if nothing had been said."""
    with pytest.raises(UserError, match=re.escape("leaves out what message 1 (system) says")) as caught:
        template(NO_SYSTEM).prompt(TWO_TURNS[:2])
    assert (caught.value.code, caught.value.param) == ("template_error", "messages")
    assert template(NO_SYSTEM).prompt(TWO_TURNS[1:2])
    twice = [*TWO_TURNS[:2], {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]}]
    with pytest.raises(UserError, match=re.escape("leaves out what message 3 (system) says")):
        template(TAKES_SWITCHES).prompt(twice)


@pytest.mark.parametrize("said", ["/no_think", "Be /no_think brief.", "  Be brief.\n", "", "Be\nbrief."])
def test_a_template_may_write_a_system_message_in_its_own_words(said):
    """Some take switches out of it, or write it as JSON: what it says still counts."""
    messages = [{"role": "system", "content": said}, TWO_TURNS[1], TWO_TURNS[2]]
    as_json = CHATML.replace("message.content", "(message.content | trim | tojson if loop.first else message.content)")
    for text in (TAKES_SWITCHES, as_json):
        assert template(text).prompt(messages[:2])
        assert trained_text(template(text).render({"messages": messages})[0], template(text))


def test_no_chat_template_is_said():
    tokenizer = tiny_tokenizer(None)
    with pytest.raises(UserError, match="no chat template"):
        Template(tokenizer)


def test_a_preference_pair_trains_both_answers_behind_one_prompt():
    renderer = template()
    pair = {
        "input": {"messages": TWO_TURNS[:2]},
        "preferred_output": [{"role": "assistant", "content": "Yes"}],
        "non_preferred_output": [{"role": "assistant", "content": "Well"}],
    }
    preferred, other = renderer.render_pair(pair)
    assert trained_text(preferred, renderer) == [("Yes<|im_end|>", 1.0)]
    assert trained_text(other, renderer) == [("Well<|im_end|>", 1.0)]


TRIMS = CHATML.replace("message.content", "message.content | trim")


def pair_of(preferred, other, **message):
    answers = [[{"role": "assistant", "content": text, **message}] for text in (preferred, other)]
    return {"input": {"messages": TWO_TURNS[:2]}, "preferred_output": answers[0], "non_preferred_output": answers[1]}


def test_a_pair_whose_answers_are_written_alike_is_refused():
    """It ranks nothing: its gradient is zero, and of a run's first step nothing would be trained."""
    pair = pair_of("Yes", "Yes\n")
    with pytest.raises(UserError, match="writes both answers of this pair alike") as caught:
        template(TRIMS).render_pair(pair)
    assert caught.value.code == "preference_identical"
    preferred, other = template().render_pair(pair)
    assert preferred.ids != other.ids


@pytest.mark.parametrize("weight", [0, 0.5])
def test_answers_of_a_pair_count_whole_or_are_refused(weight):
    with pytest.raises(UserError, match="answers of a pair always count whole") as caught:
        template().render_pair(pair_of("Yes", "No", weight=weight))
    assert caught.value.code == "weight_invalid"
    for part in template().render_pair(pair_of("Yes", "No", weight=1)):
        assert set(part.weights) == {0.0, 1.0}


def test_the_pad_token_does_not_matter():
    """Masks go by place; a tokenizer whose pad is its end token trains the end all the same."""
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    (rendered,) = Template(tokenizer).render({"messages": TWO_TURNS})
    assert sum(w for i, w in zip(rendered.ids, rendered.weights, strict=True) if i == tokenizer.eos_token_id) == 2.0


class SlowTemplate(Template):
    """The reference: each text by transformers' own functions, and by itself."""

    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self._write = lambda messages, tools, opens_answer: tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=opens_answer
        )

    def _tokenize_all(self, texts):
        return [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def attempt(render, example):
    """What becomes of an example, or the words with which it is refused."""
    try:
        return render(example)
    except UserError as error:
        return error.message


texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["Yes", "<|im_end|>", "<s>a", " ", "\n\n"])
weights = st.sampled_from([{}, {"weight": 0}, {"weight": 1}, {"weight": 0.5}])
turns = st.lists(st.tuples(texts, texts, weights), min_size=1, max_size=3)


@pytest.mark.parametrize("text", [CHATML, NO_END, END_WITH_NEXT, REWRITES_HISTORY, KNOWS_TOOLS])
@given(chats=st.lists(turns, max_size=4), has_tool=st.booleans())
@settings(max_examples=40)
def test_many_examples_at_once_are_what_each_is_by_itself(text, chats, has_tool):
    quick, slow = template(text), SlowTemplate(tiny_tokenizer(text))
    examples = [
        {
            "messages": [
                message
                for asked, answered, weight in chat
                for message in (
                    {"role": "user", "content": asked},
                    {"role": "assistant", "content": answered, **weight},
                )
            ],
            **({"tools": [TOOL]} if has_tool and text is KNOWS_TOOLS else {}),
        }
        for chat in chats
    ]
    drafts, expected = [], []
    for example in examples:
        wanted, drafted = attempt(slow.render, example), attempt(quick.drafts, example)
        if isinstance(wanted, str):
            assert drafted == wanted
        else:
            drafts += drafted
            expected += wanted
    assert quick.finish(drafts) == expected


def test_what_a_tokenizer_cuts_or_fills_up_elsewhere_stays_whole_here():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    (rendered,) = Template(tokenizer).render({"messages": TWO_TURNS[:3]})
    (expected,) = template().render({"messages": TWO_TURNS[:3]})
    assert rendered == expected
