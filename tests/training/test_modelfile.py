"""A Modelfile lets Ollama write conversations as the model's own chat template does."""

import re

import pytest

from local_backend.engine.exports.ollama import frame_of, go_template, modelfile
from local_backend.engine.template import Template
from tests.training.chatty import tiny_tokenizer

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_the_modelfile_frames_messages_as_the_chat_template_does():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHATML
    frame = frame_of(Template(tokenizer))
    assert frame.around == {
        "system": ("<|im_start|>system\n", "<|im_end|>\n"),
        "user": ("<|im_start|>user\n", "<|im_end|>\n"),
        "assistant": ("<|im_start|>assistant\n", "<|im_end|>\n"),
    }
    assert frame.standard_system == "You are kind."
    conversation = [("system", "S"), ("user", "a b"), ("assistant", "c\n"), ("user", "d")]
    messages = [{"role": role, "content": content} for role, content in conversation]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert as_ollama_writes(go_template(frame), conversation) == expected


LLAMA_3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA_3_2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set said = messages[0]['content'] %}"
    "{% set messages = messages[1:] %}{% else %}{% set said = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n\n{{ said }}<|eot_id|>"
    "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
PLAIN = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}USER: {{ message['content'] }}\n"
    "{% else %}ASSISTANT: {{ message['content'] }}</s>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


def template_of(chat_template, *, bos="<|begin_of_text|>"):
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": bos})
    tokenizer.chat_template = chat_template
    return Template(tokenizer)


@pytest.mark.parametrize(
    ("chat_template", "head", "standard_system"),
    [
        (CHATML, "", "You are kind."),
        ("{{ bos_token }}" + CHATML, "<|begin_of_text|>", "You are kind."),
        (LLAMA_3, "<|begin_of_text|>", None),
        (LLAMA_3_2, "<|begin_of_text|>", None),
        (PLAIN, "<|begin_of_text|>", None),
    ],
    ids=["chatml", "chatml-bos", "llama-3", "llama-3.2", "plain"],
)
def test_the_modelfile_writes_conversations_as_the_chat_template_does(chat_template, head, standard_system):
    """With a system message and without; what is written once, such as BOS, comes before any message."""
    template = template_of(chat_template)
    frame = frame_of(template)
    assert (frame.head, frame.standard_system) == (head, standard_system)
    turns = [("user", "a b"), ("assistant", "c"), ("user", "d")]
    for conversation in (turns[:1], turns, [("system", "S"), *turns]):
        messages = [{"role": role, "content": content} for role, content in conversation]
        expected = template.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        is_set = standard_system and conversation[0][0] != "system"
        given = [("system", standard_system), *conversation] if is_set else conversation
        assert as_ollama_writes(go_template(frame), given) == expected


def test_a_later_system_message_is_written_as_the_others_are():
    """It begins no second text; SmolLM2's BOS is what each message begins with."""
    frame = frame_of(template_of(LLAMA_3))
    assert frame.around["system"] == ("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>")
    frame = frame_of(template_of(CHATML, bos="<|im_start|>"))
    assert (frame.head, frame.around["system"]) == ("", ("<|im_start|>system\n", "<|im_end|>\n"))


def as_ollama_writes(template, conversation):
    """Go's rules for the one form of template that is written: a loop over messages with a branch for each role."""
    head, alone, loop, opening = re.fullmatch(
        r"(.*?)(?:\{\{ if not \.System \}\}(.*)\{\{ end \}\})?"
        r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}(.*)",
        template,
        re.DOTALL,
    ).groups()
    parts = re.split(r"\{\{ (?:else )?if eq \.Role \"(\w+)\" \}\}", loop)
    assert parts[0] == ""
    branches = dict(zip(parts[1::2], parts[2::2], strict=True))
    has_system = any(role == "system" for role, _ in conversation)
    written = "".join(branches[role].replace("{{ .Content }}", content) for role, content in conversation)
    return head + ("" if has_system else alone or "") + written + opening


def test_a_template_that_is_no_frame_is_left_to_ollama():
    """It numbers the messages."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ loop.index }}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    assert frame_of(Template(tokenizer)) is None


def test_a_template_that_is_no_frame_without_a_system_message_is_left_to_ollama():
    """It then counts the messages."""
    chat_template = (
        "{% if messages[0]['role'] != 'system' %}{{ messages | length }} {% endif %}"
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    assert frame_of(template_of(chat_template)) is None


LLAMA_3_2_DATE = """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
"""
DATED = LLAMA_3_2_DATE + LLAMA_3_2.replace("{{ said }}", "Today Date: {{ date_string }}\n\n{{ said }}")
ALWAYS_TODAY = CHATML.replace("You are kind.", "It is ' + strftime_now('%Y-%m-%d') + '.")


def test_a_chat_template_that_writes_the_date_gets_the_day_that_it_has_without_a_clock():
    """That of the export would be wrong from the next day on, and another each time."""
    template = template_of(DATED)
    written = modelfile(template, gguf_name="t.gguf")
    assert "# The model's chat template writes today's date; " in written
    (body,) = re.findall(r'TEMPLATE """(.*?)"""', written, re.DOTALL)
    turns = [("user", "a b"), ("assistant", "c"), ("user", "d")]
    for conversation in (turns[:1], turns, [("system", "S"), *turns]):
        messages = [{"role": role, "content": content} for role, content in conversation]
        options = {"tokenize": False, "add_generation_prompt": True, "date_string": "26 Jul 2024"}
        assert as_ollama_writes(body, conversation) == template.tokenizer.apply_chat_template(messages, **options)


def test_a_chat_template_that_needs_a_clock_gets_the_day_of_the_export_and_says_so():
    written = modelfile(template_of(ALWAYS_TODAY), gguf_name="t.gguf")
    (said,) = re.findall(r"# .* that of its export, (\d{4}-\d\d-\d\d)", written)
    assert f'SYSTEM """It is {said}."""' in written


@pytest.mark.parametrize("chat_template", [CHATML, CHATML + "{% if tools %}{{ strftime_now('%Y') }}{% endif %}"])
def test_a_chat_template_that_writes_no_date_gets_no_word_about_it(chat_template):
    written = modelfile(template_of(chat_template), gguf_name="t.gguf")
    assert 'TEMPLATE """' in written
    assert "#" not in written
