"""What is wrong with a classifier's files is said with line and remedy; skewed labels can be made to count the same."""

import json
from collections import Counter

import pytest
from transformers import BertTokenizerFast, ByT5Tokenizer

from local_backend.engine.classify import readers
from local_backend.engine.classify.body import load_body
from local_backend.engine.classify.data import read_data
from local_backend.engine.classify.examples import Example, labels_of, query_of
from local_backend.engine.classify.labels import epoch_order, example_weights, options_of, set_aside
from local_backend.engine.classify.routing import training_kind
from local_backend.task import JobError, ModelRef, UserError
from tests.training.tiny_classifier import CPU, example, sentences, task_of, write_encoder, write_examples


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    folder = write_encoder(tmp_path_factory.mktemp("encoder"), pooling="mean")
    return load_body(folder, training_kind(ModelRef(base=str(folder)), folder, task="chat"), machine=CPU)


def read(tmp_path, body, training, validation=None):
    paths = [write_examples(tmp_path / "train.jsonl", training), None]
    if validation is not None:
        paths[1] = write_examples(tmp_path / "valid.jsonl", validation)
    task = task_of(tmp_path, paths[0], tmp_path, validation=paths[1])
    return read_data(task, body.reader, options=options_of({}), known=None)


def picture(text="what is it"):
    content = [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "cat"}]}


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        (sentences(9, kinds=("fruit",)), "All examples have the same label ('fruit')"),
        ([*sentences(6), example("the cat", ["animal", "fruit"])], "Line 1: Its answer is no JSON list"),
        ([*sentences(6), example("the cat", " ")], "Line 7: The answer is blank"),
        ([*sentences(6), example("old " * 50, "tool")], "Line 7: It has 52 tokens, and the model reads 40"),
        ([*sentences(6), example(" ", "tool")], "Line 7: There is nothing to classify"),
        ([*sentences(6), picture()], "Line 7: It has an image, and this model reads text only"),
    ],
    ids=["one-label", "lists-and-words", "blank-label", "too-long", "blank-text", "image"],
)
def test_training_files_that_cannot_work_are_refused_with_the_line(tmp_path, body, examples, said):
    with pytest.raises(JobError) as caught:
        read(tmp_path, body, examples)
    assert said in caught.value.message
    assert (caught.value.code, caught.value.param) == ("invalid_training_file", "training_file")


def test_labels_of_the_validation_file_must_have_been_learned(tmp_path, body):
    with pytest.raises(JobError) as caught:
        read(tmp_path, body, sentences(9), [*sentences(3), example("i see my drill", "gadget")])
    assert "Line 4: The label 'gadget' is not in the training file" in caught.value.message
    assert caught.value.code == "invalid_validation_file"


def test_system_prompts_are_left_out_and_several_messages_are_one_text():
    messages = [
        {"role": "system", "content": "Sort things."},
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "which?"},
        {"role": "user", "content": [{"type": "text", "text": "the old one"}]},
    ]
    assert query_of(messages).text == "the cat\nwhich?\nthe old one"
    with pytest.raises(UserError, match="not 'input_audio'"):
        query_of([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}])


def test_answers_are_a_label_or_a_json_list_of_labels():
    assert labels_of(" tool ") == (("tool",), False)
    assert labels_of('["tool", "old", "tool"]') == (("tool", "old"), True)
    assert labels_of("[]") == ((), True)
    for text in ("[sic]", "[NaN]", "[" * 9000 + "]" * 9000):  # no JSON, or none that can be read
        assert labels_of(text) == ((text,), False)


def test_numbers_in_a_list_are_labels_as_they_are_written():
    assert labels_of("[1, 27]") == (("1", "27"), True)
    assert labels_of('[1.50, "1", 1]') == (("1.50", "1"), True)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('["a", null]', "holds null"),
        ('["a", " "]', "holds a blank text"),
        ('["a", ["b"]]', "holds a list"),
        ('[{"label": "a"}]', "holds an object"),
        ("[true]", "holds a boolean"),
    ],
)
def test_lists_of_anything_but_labels_are_refused_with_the_line(tmp_path, body, answer, said):
    with pytest.raises(JobError, match=rf"Line 7: Its list of labels {said}") as caught:
        read(tmp_path, body, [*sentences(6), example("the cat", answer)])
    assert caught.value.code == "invalid_training_file"


@pytest.mark.parametrize("labels", [["tool", "animal"], []], ids=["two", "none"])
def test_a_classifier_of_one_label_each_is_not_measured_on_lists(tmp_path, body, labels):
    with pytest.raises(JobError, match=rf"Line 4: Its answer is a list of {len(labels)} labels") as caught:
        read(tmp_path, body, sentences(9), [*sentences(3), example("i see my drill", labels)])
    assert caught.value.code == "invalid_validation_file"


def test_conversations_are_no_labels_but_many_labels_are(tmp_path, body):
    talk = [example("the cat", f"It is over there, at {i}.") for i in range(1500)]
    with pytest.raises(JobError, match=r"1,500 of 1,500 answers occur only once: they look like texts") as caught:
        read(tmp_path, body, talk)
    assert caught.value.code == "invalid_training_file"
    assert len(read(tmp_path, body, [*talk, *talk]).labels.names) == 1500
    assert len(read(tmp_path, body, talk[:100]).labels.names) == 100


def test_where_examples_have_several_labels_many_may_be_rare(tmp_path, body):
    """A long tail is ordinary there; texts in lists are not: most of them occur once."""
    tags = [example("the cat", ["common", "usual", f"rare {i}"]) for i in range(1500)]
    assert len(read(tmp_path, body, tags).labels.names) == 1502
    texts = [example("the cat", [f"It is at {i}.", f"It was at {i}.", "common"]) for i in range(1500)]
    with pytest.raises(JobError, match=r"3,000 of 4,500 labels occur only once: they look like texts"):
        read(tmp_path, body, texts)


def test_a_list_of_one_label_is_that_label(tmp_path, body):
    found = read(tmp_path, body, sentences(9), [example("i see my drill", ["tool"])])
    assert [found.labels.names[i] for i in found.valid[0].targets] == ["tool"]


def test_the_order_of_labels_in_an_answer_says_nothing(tmp_path, body):
    found = read(tmp_path, body, [example("the cat", ["b", "a"]), example("the cat", ["a", "b"])])
    assert found.train[0].targets == found.train[1].targets == (0, 1)


def test_a_tokenizer_that_is_written_anew_is_the_one_that_reads(tmp_path):
    folder = write_encoder(tmp_path / "encoder")
    kind = training_kind(ModelRef(base=str(folder)), folder, task="classify")
    before = readers.reader_of(folder, kind)
    assert readers.reader_of(folder, kind) is before
    file = folder / "tokenizer.json"
    written = json.loads(file.read_text())
    vocabulary = written["model"]["vocab"]
    vocabulary["apple"], vocabulary["hammer"] = vocabulary["hammer"], vocabulary["apple"]
    file.write_text(json.dumps(written))
    assert readers.reader_of(folder, kind).ids("apple") == before.ids("hammer") != before.ids("apple")


@pytest.mark.parametrize("is_fast", [True, False])
def test_tokens_of_many_texts_at_once_are_those_of_each_by_transformers(tmp_path, monkeypatch, is_fast):
    monkeypatch.setattr(readers, "_TEXTS_AT_ONCE", 7)
    write_encoder(tmp_path)
    limit = {"model_max_length": 4}  # what is longer is not cut
    tokenizer = BertTokenizerFast.from_pretrained(tmp_path, **limit) if is_fast else ByT5Tokenizer(**limit)
    reader = readers.TextReader(tokenizer, 100)
    texts = ["the cat [SEP] \u00e9t\u00e9", "  ", "unknown", *(one["messages"][0]["content"] for one in sentences(20))]
    examples = [Example(line=i, text=text, labels=("a",)) for i, text in enumerate(texts, 1)]
    alone = [tokenizer(text, truncation=False, verbose=False)["input_ids"] for text in texts]
    assert list(reader.read_all(examples, param="training_file")) == alone
    assert [reader.read(text, (), line=1, param="messages") for text in texts] == alone


@pytest.mark.parametrize("first", [3, 9])
def test_the_first_line_that_cannot_be_read_is_named_whatever_is_wrong_with_it(tmp_path, body, monkeypatch, first):
    """Texts become tokens many at once; a label is looked up when its line has been read."""
    monkeypatch.setattr(readers, "_TEXTS_AT_ONCE", 8)
    bad = [example("old " * 50, "tool"), example("my saw", "gadget")]
    for wrong in (bad, bad[::-1]):
        lines = sentences(12)
        lines[first - 1], lines[first] = wrong
        with pytest.raises(JobError, match=rf"Line {first}: "):
            read(tmp_path, body, sentences(9), lines)


def test_class_weights_give_every_class_the_same_sum_and_keep_the_mean():
    targets = [(0,)] * 12 + [(1,)] * 3 + [(2,)] * 1
    weights = example_weights(targets, [1.0] * 16, balance="weights", n=3)
    sums = Counter()
    for (label,), weight in zip(targets, weights, strict=True):
        sums[label] += weight
    assert list(sums.values()) == pytest.approx([16 / 3] * 3)
    assert example_weights(targets, [1.0] * 16, balance="none", n=3) == [1.0] * 16


def test_balanced_sampling_draws_classes_alike_and_is_a_pure_function():
    targets = [(0,)] * 900 + [(1,)] * 100
    order = epoch_order(targets, balance="sampling", seed=3, epoch=1)
    assert 400 < sum(targets[i] == (1,) for i in order) < 600
    assert order == epoch_order(targets, balance="sampling", seed=3, epoch=1)
    assert order != epoch_order(targets, balance="sampling", seed=3, epoch=2)
    assert sorted(epoch_order(targets, balance="none", seed=3, epoch=1)) == list(range(1000))


def test_a_class_of_one_example_stays_in_training():
    train, valid = set_aside([(0,)] * 10 + [(1,)] * 2 + [(2,)], share=0.2, seed=0)
    assert (len(train), len(valid)) == (10, 3)
    assert 12 in train
