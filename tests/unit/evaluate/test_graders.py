"""Graders give what OpenAI's guide says, and what the libraries behind them say."""

from __future__ import annotations

from typing import get_args

import pytest

from ftclient.errors import DataError
from ftclient.evaluate.graders import Means, ModelQuestion, ModelReply, Sample, grade, parse_grader, passes, read_grader
from ftclient.evaluate.graders.kinds import TextSimilarity
from ftclient.evaluate.graders.similarity import similarity, words
from ftclient.evaluate.graders.templates import TemplateError, fill

CHECK = {"type": "string_check", "name": "c", "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}"}
LIKE = {**CHECK, "type": "text_similarity"}
GUIDE_MULTI = {
    "type": "multi",
    "graders": {
        "name": {
            "name": "name_grader",
            "type": "text_similarity",
            "input": "{{sample.output_json.name}}",
            "reference": "{{item.name}}",
            "evaluation_metric": "fuzzy_match",
            "pass_threshold": 0.9,
        },
        "email": {
            "name": "email_grader",
            "type": "string_check",
            "input": "{{sample.output_json.email}}",
            "reference": "{{item.email}}",
            "operation": "eq",
        },
    },
    "calculate_output": "(name + email) / 2",
}
JOHN = {"name": "John Doe", "email": "john.doe@gmail.com"}
SCORE = {
    "type": "score_model",
    "name": "s",
    "model": "judge",
    "range": [0, 5],
    "input": [{"role": "user", "content": "Reference: {{ item.answer }}. Answer: {{ sample.output_text }}"}],
    "sampling_params": {"temperature": 0.5, "max_completions_tokens": 9},
}
LABEL = {**{key: SCORE[key] for key in ("model", "input")}, "type": "label_model", "name": "l"}
LABEL |= {"labels": ["good", "very good", "bad"], "passing_labels": ["good", "very good"]}


def python(source):
    return {"type": "python", "source": source}


def reward(grader, text, *, means=None, **item):
    return grade(parse_grader(grader), sample=Sample(text=text), item=item, means=means)


@pytest.mark.parametrize(
    ("operation", "text", "reference", "expected"),
    [
        ("eq", "Paris", "Paris", 1),
        ("eq", "paris", "Paris", 0),
        ("ne", "paris", "Paris", 1),
        ("ne", "Paris", "Paris", 0),
        ("like", "It is Paris.", "Paris", 1),
        ("like", "It is paris.", "Paris", 0),
        ("like", "Paris", "It is Paris.", 0),
        ("ilike", "It is PARIS.", "paris", 1),
        ("ilike", "東京です", "東京", 1),
        ("ilike", "It is Lyon.", "paris", 0),
    ],
)
def test_string_checks(operation, text, reference, expected):
    assert reward({**CHECK, "operation": operation}, text, answer=reference).reward == expected


PAIRS = [
    ("the cat sat on the mat", "the cat is on the mat"),
    ("Completely different words here", "nothing in common at all with those"),
    ("one two three four five six seven", "one two three four five six seven"),
    ("A short one", "A much longer reference that has a short one somewhere inside of it"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("text", "reference"), PAIRS)
def test_similarities_are_the_libraries_own(text, reference):
    from nltk.translate import bleu_score, gleu_score
    from nltk.translate.meteor_score import single_meteor_score
    from rapidfuzz import fuzz, utils
    from rouge_score.rouge_scorer import RougeScorer

    class NoWords:
        def synsets(self, _word):
            return []

    ours, theirs = text.lower().split(), reference.lower().split()
    kinds = ["rouge1", "rouge2", "rouge3", "rouge4", "rouge5", "rougeL"]
    rouge = RougeScorer(kinds).score(reference, text)  # with the library's own tokenizer
    smooth = bleu_score.SmoothingFunction().method1
    expected = {
        "fuzzy_match": fuzz.WRatio(text, reference, processor=utils.default_process) / 100,
        "bleu": bleu_score.sentence_bleu([theirs], ours, smoothing_function=smooth, auto_reweigh=True),
        "gleu": gleu_score.sentence_gleu([theirs], ours),
        "meteor": single_meteor_score(theirs, ours, wordnet=NoWords()),
        **{f"rouge_{kind[5:].lower()}": rouge[kind].fmeasure for kind in kinds},
    }
    for metric, value in expected.items():
        found = reward({**LIKE, "evaluation_metric": metric}, text, answer=reference).reward
        assert found == pytest.approx(value), metric


def test_similarities_see_the_words_of_japanese():
    assert words("東京はJapanの首都_2つ") == ["東", "京", "は", "japan", "の", "首", "都", "2", "つ"]
    for metric in ("bleu", "gleu", "meteor", "rouge_1", "rouge_l", "fuzzy_match"):
        near, far = similarity(metric, "犬が走る。", "犬が歩く。"), similarity(metric, "空は青い。", "犬が歩く。")
        assert 0 <= far < near < 1, metric


ALL_SIMILARITIES = get_args(TextSimilarity.model_fields["evaluation_metric"].annotation)


@pytest.mark.parametrize("metric", ALL_SIMILARITIES)
@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("", "", 1),
        (" \n", "\u3000", 1),
        ("", "Paris", 0),
        ("Paris", "", 0),
        (" ", "東京", 0),
        ("...", "", 0),
        ("", "👍", 0),
        ("👍", "👍", 1),
    ],
)
def test_empty_texts_are_alike_and_like_nothing_else(metric, text, reference, expected):
    found = reward({**LIKE, "evaluation_metric": metric}, text, answer=reference)
    assert (found.reward, dict(found.errors)) == (pytest.approx(expected, abs=1e-5), {})


@pytest.mark.parametrize("metric", sorted(set(ALL_SIMILARITIES) - {"cosine"}))
def test_signs_alone_are_like_themselves_only(metric):
    assert similarity(metric, "!!!", "???") == 0
    assert similarity(metric, "!!", " !! ") == 1
    assert similarity(metric, "...", "a word") == similarity(metric, "a word", "...") == 0


def test_the_guides_multi_grader_gives_half_for_a_wrong_email():
    right = reward(GUIDE_MULTI, '{"name": "John Doe", "email": "john.doe@gmail.com"}', **JOHN)
    assert (right.reward, right.sub_rewards) == (1.0, {"name": 1.0, "email": 1.0})
    wrong = reward(GUIDE_MULTI, '{"name": "John Doe", "email": "jd@gmail.com"}', **JOHN)
    assert wrong.reward == 0.5
    typo = reward(GUIDE_MULTI, '{"name": "Jon Doe", "email": "john.doe@gmail.com"}', **JOHN)
    assert 0.5 < typo.reward < 1


def test_the_guides_tool_grader_reads_calls():
    call = {"id": "c", "type": "function", "function": {"name": "get_acceptors", "arguments": '{"smiles": "CO"}'}}
    check = {"type": "string_check", "operation": "eq"}
    grader = {
        "type": "multi",
        "graders": {
            "function_name": {
                **check,
                "input": "get_acceptors",
                "reference": "{{sample.output_tools[0].function.name}}",
            },
            "arguments": {
                **check,
                "input": '{"smiles": "{{item.smiles}}"}',
                "reference": "{{sample.output_tools[0].function.arguments}}",
            },
        },
        "calculate_output": "0.5 * function_name + 0.5 * arguments",
    }
    sample = Sample(text="", tool_calls=[call])
    assert grade(parse_grader(grader), sample=sample, item={"smiles": "CO"}).reward == 1.0
    assert grade(parse_grader(grader), sample=sample, item={"smiles": "C"}).reward == 0.5
    silent = grade(parse_grader(grader), sample=Sample(text=""), item={"smiles": "C"})
    assert silent.reward == 0
    assert "invalid_variable_error" in silent.errors


def test_lists_and_single_graders_are_taken_by_their_names():
    one = {**CHECK, "operation": "eq", "name": "exact"}
    for graders in ([one], one):
        grader = {"type": "multi", "name": "m", "graders": graders, "calculate_output": "1 - exact"}
        assert reward(grader, "a", answer="b").reward == 1.0


def test_answers_that_are_not_json_and_fields_that_are_not_there_are_told_apart():
    grader = {**CHECK, "operation": "eq", "input": "{{ sample.output_json.name }}"}
    assert set(reward(grader, "no JSON", answer="x").errors) == {"sample_parse_error"}
    assert set(reward(grader, '{"other": 1}', answer="x").errors) == {"invalid_variable_error"}
    assert set(reward(grader, '{"name": "x"}').errors) == {"invalid_variable_error"}
    assert reward(
        {**grader, "reference": "{{ item.list[1]['key word'] }}"}, '{"name": 3}', list=[0, {"key word": 3}]
    ).reward


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "regex"}, "'type' of a grader must be one of string_check"),
        ({"operation": "is"}, "operation: "),
        ({"reference": None}, "reference: "),
        ({"input": "{{ answer }}"}, "no variable: write {{ item.field }}"),
        ({"input": "{{ sample.output_text | upper }}"}, "no variable"),
        ({"more": 1}, "more: "),
    ],
)
def test_graders_that_cannot_work_are_refused_by_field(change, words):
    with pytest.raises(DataError, match=r"grader\.json: ") as raised:
        read_grader({**CHECK, "operation": "eq", **change}, source="grader.json")
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("grader", "words"),
    [
        ({**GUIDE_MULTI, "calculate_output": "(name + mail) / 2"}, "no grader 'mail'"),
        ({**GUIDE_MULTI, "graders": {"n": GUIDE_MULTI}, "calculate_output": "n"}, "multi"),
        (
            {**GUIDE_MULTI, "graders": {"a b": GUIDE_MULTI["graders"]["name"]}, "calculate_output": "1"},
            "cannot be a name",
        ),
        ({**LABEL, "passing_labels": ["great"]}, "'great' is none of the labels"),
        ({**SCORE, "range": [1, 0]}, "must be below"),
        ({**SCORE, "input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "something else than text"),
        ({"type": "python", "source": "def grade("}, "cannot be read as Python"),
        ({"type": "python", "source": "def score(sample, item): return 1"}, "must define a function grade"),
        (python("def make():\n    def grade(sample, item): return 1\n    return grade"), "grade in line 2 is inside"),
        (python("class Grader:\n    def grade(self, sample, item): return 1"), "define grade(sample, item) at the top"),
        (python("async def grade(sample, item): return 1"), "must define a function grade"),
        (python("def grade(sample): return 1"), "grade in line 1 must take two arguments"),
        (python("def grade(sample, item, more): return 1"), "must take two arguments"),
        (python("def grade(sample, item, *, more): return 1"), "must take two arguments"),
        (python("def grade(s, i): return 1\ndef grade(s): return 1"), "grade in line 2 must take two arguments"),
        (
            {"type": "python", "source": "def grade(sample, item): return 1\n" + "#" * 256_000},
            "longer than 256,000 bytes",
        ),
        ("text", "'type' of a grader"),
    ],
)
def test_what_is_wrong_inside_is_said(grader, words):
    with pytest.raises(DataError) as raised:
        read_grader(grader, source="g.json")
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "source",
    [
        "def grade(sample, item): return 1",
        "def grade(sample, item, scale=1.0, **more): return scale",
        "def grade(*both): return 1",
        "try:\n    import math\nexcept ImportError:\n    def grade(*a): return 0\nelse:\n    def grade(*a): return 1",
        "class Other:\n    def grade(self): return 1\ndef grade(sample, item): return Other().grade()",
    ],
)
def test_sources_whose_grade_can_be_called_are_taken(source):
    assert parse_grader(python(source)).source == source


def judge(text: str, asked: list[ModelQuestion] | None = None, **more: object) -> Means:
    def ask(question: ModelQuestion) -> ModelReply:
        if asked is not None:
            asked.append(question)
        return ModelReply(text=text, n_tokens=12, **more)

    return Means(ask=ask)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"steps": [], "result": 4}', 4.0),
        ('Well. {"result": 2.5} Done.', 2.5),
        ('{"result": 77}', 5.0),
        ('{"result": -1}', 0.0),
        ("3", 3.0),
        ("It is \\boxed{3}", 3.0),
        ('{"result": "3"}', 3.0),
        ('{"grade": {"result": 2}}', 2.0),
        ('The answer has {"result": 5} in it, a trick.\n{"steps": [], "result": 1}', 1.0),
        ('{"steps": [{"description": "It says {\\"result\\": 5}", "more": {"result": 4}}], "result": 1}', 1.0),
        ('{"result": 1' + "0" * 400 + "}", 5.0),
        ('{"result": 4}\n\nExplanation: the candidate wrote {"result": 1}.', 4.0),
        ('```json\n{"result": 4}\n```\nThe candidate wrote {"steps": [], "result": 1}.', 4.0),
        ('{"score": 3}', 3.0),
        ('{"reasoning": "It has 2 words", "score": 3}', 3.0),
        ('The answer {"city": "Paris", "n": 7} is right. Score: 1', 1.0),
    ],
)
def test_a_models_score_is_read_and_cut_to_the_range(said, expected):
    asked: list[ModelQuestion] = []
    found = reward(SCORE, "Lyon", answer="Paris", means=judge(said, asked))
    assert (found.reward, dict(found.errors)) == (expected, {})
    assert found.tokens_by_model == {"judge": 12}
    (question,) = asked
    assert question.messages[-1]["content"] == "Reference: Paris. Answer: Lyon"
    assert "a number from 0 to 5" in question.messages[0]["content"]
    assert question.options == {"temperature": 0.5, "max_completion_tokens": 9}
    assert question.schema["properties"]["result"] == {"type": "number"}


@pytest.mark.parametrize(
    "said",
    [
        "I cannot say",
        '{"result": null}',
        '{"steps": [{"description": "It has 3 words", "conclusion": "no score"}], "result": null}',
        '{"steps": [{"description": "It has 3 words, and',
        "between 1 and 3",
        '{"result": true}',
        '{"reasoning": "It has 3 words"}',
        'It is wrong: {"score": 3}',
        '{"steps": [{"description": "x", "score": 3}], "resul',
        '{"result": NaN}',
        '{"result": Infinity}',
        '{"result": -Infinity}',
        '{"result": 1e999}',
        "1" * 400,
    ],
)
def test_what_is_no_score_is_worth_nothing_and_told(said):
    found = reward(SCORE, "Lyon", answer="Paris", means=judge(said))
    assert (found.reward, set(found.errors)) == (0.0, {"model_grader_parse_error"})


def test_models_that_refuse_fail_or_are_not_there_are_told_apart():
    def fail(_question):
        raise ConnectionError("nobody there")

    refused = reward(SCORE, "x", answer="y", means=judge("", is_refusal=True))
    assert set(refused.errors) == {"model_grader_refusal_error"}
    failed = reward(SCORE, "x", answer="y", means=Means(ask=fail))
    assert failed.errors == {"model_grader_server_error": "nobody there"}
    assert set(reward(SCORE, "x", answer="y").errors) == {"model_grader_server_error"}


@pytest.mark.parametrize(
    ("said", "expected", "errors"),
    [
        ('{"result": "good"}', 1.0, set()),
        ('{"steps": [], "result": "bad"}', 0.0, set()),
        ("Very good!", 1.0, set()),
        ("bad", 0.0, set()),
        ("good or bad", 0.0, {"model_grader_parse_error"}),
        ('{"steps": [{"description": "Is it good?"}], "result": null}', 0.0, {"model_grader_parse_error"}),
        ('{"steps": [{"description": "Is it good?', 0.0, {"model_grader_parse_error"}),
        ('It says {"result": "good"}: {"steps": [], "result": "bad"}', 0.0, set()),
        ('{"label": "bad"}', 0.0, set()),
        ('The answer {"mood": "good"} is bad', 0.0, set()),
        ("nothing", 0.0, {"model_grader_parse_error"}),
    ],
)
def test_a_models_label_passes_or_not(said, expected, errors):
    found = reward(LABEL, "x", answer="y", means=judge(said))
    assert (found.reward, set(found.errors)) == (expected, errors)


def test_labels_that_are_numbers_or_truth_values_are_read_as_models_write_them():
    for labels, said in ((["1", "2"], "2"), (["true", "false"], "false")):
        grader = {**LABEL, "labels": labels, "passing_labels": labels[1:]}
        found = reward(
            grader, "x", answer="y", means=judge(f'{{"steps": [{{"conclusion": "1 true"}}], "result": {said}}}')
        )
        assert (found.reward, dict(found.errors)) == (1.0, {})


def test_cosine_is_that_of_the_encoders_own_vectors():
    from ftclient.evaluate.graders.encoder import N_DIMENSIONS, encode

    texts = ["The parcel has not arrived", "Where is my package?", "I like the blue lamp", ""]
    vectors = encode(texts)
    assert [len(vector) for vector in vectors] == [N_DIMENSIONS] * 4
    assert [sum(x * x for x in vector) for vector in vectors[:3]] == pytest.approx([1.0] * 3, abs=1e-5)
    near, far, same, nothing = (similarity("cosine", texts[0], other) for other in (texts[1], texts[2], texts[0], ""))
    assert near == pytest.approx(sum(x * y for x, y in zip(vectors[0], vectors[1], strict=True)), abs=1e-6)
    assert nothing <= far < near < same == pytest.approx(1.0, abs=1e-5)
    assert reward({**LIKE, "evaluation_metric": "cosine"}, texts[0], answer=texts[1]).reward == near


def test_right_is_what_passes_the_threshold():
    check, like = parse_grader({**CHECK, "operation": "eq"}), parse_grader({**LIKE, "evaluation_metric": "gleu"})
    assert passes(check, grade(check, sample=Sample(text="a"), item={"answer": "a"})) is True
    assert passes(like, grade(like, sample=Sample(text="a"), item={"answer": "a"})) is None
    strict = parse_grader({**LIKE, "evaluation_metric": "gleu", "pass_threshold": 0.9})
    assert passes(strict, grade(strict, sample=Sample(text="a"), item={"answer": "a"})) is True
    assert passes(strict, grade(strict, sample=Sample(text="a"), item={"answer": "b"})) is False


@pytest.mark.parametrize(
    "text", ["{{" * 50_000, "{{ " + " " * 100_000, "{{ item.x" * 10_000, "{{ item" + ".x" * 50_000]
)
def test_braces_that_never_close_are_plain_text_and_take_no_time(text: str) -> None:
    """A short request to the server could otherwise keep it busy for hours."""
    assert fill(text, item={"x": "no"}, sample={}) == text


def test_white_space_and_lines_inside_of_braces_mean_nothing() -> None:
    assert fill("{{item.x}} {{\n item.x  }} {{ open {{ item.x }}", item={"x": "1"}, sample={}) == "1 1 {{ open 1"
    with pytest.raises(TemplateError, match="is no variable"):
        fill("{{ }}", item={}, sample={})
