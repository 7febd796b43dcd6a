"""Converting images: by class or from a table, sound ones as they are, others as RGB or named with a reason."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys

import polars as pl
import pytest
from PIL import Image

from ftclient.data import Dataset
from ftclient.data.convert import Columns, convert_file, convert_rows, preview, recognise
from ftclient.data.images import inspect_image
from ftclient.errors import DataError


def picture(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> bytes:
    target = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(target, kind)
    return target.getvalue()


def image_bytes(part: dict) -> bytes:
    return base64.b64decode(part["image_url"]["url"].split(",")[1])


def test_a_folder_of_images_by_class(tmp_path):
    sound = picture()
    files = {"cat/a.png": sound, "cat/b.jpg": picture("JPEG", "CMYK"), "cat/c.png": sound[:200], "dog/d.gif": b"GIF89a"}
    files |= {"dog/e.png": picture(mode="L"), "dog/f.txt": b"a dog"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    done = convert_file(tmp_path, to=tmp_path / "out.jsonl", columns=Columns(prompt="Cat or dog?"))
    examples = list(Dataset.read(done.to))
    assert [example["messages"][-1]["content"] for example in examples] == ["cat", "cat", "dog"]
    text, image = examples[0]["messages"][0]["content"]
    assert text == {"type": "text", "text": "Cat or dog?"}
    assert image_bytes(image) == sound
    reasons = [skipped.reason.partition(":")[0] for skipped in done.skipped]
    assert reasons == ["cat/c.png", "dog/d.gif", "dog/f.txt is unknown data; JPEG, PNG, WebP and GIF are accepted"]
    assert Dataset(examples * 5).check().ok  # CMYK and grey have become RGB


def test_hidden_folders_are_no_classes(tmp_path):
    for name in ("cat", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(picture())
    done = convert_file(tmp_path, to=tmp_path / "out.jsonl")
    assert [example["messages"][-1]["content"] for example in Dataset.read(done.to)] == ["cat"]
    (tmp_path / "cat/a.png").unlink()
    with pytest.raises(DataError, match="neither folders of images nor a saved dataset"):
        recognise(tmp_path)


def test_a_table_with_a_column_of_images(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(picture(size=(64, 32)))
    (tmp_path.parent / "private.png").write_bytes(picture())
    cells = ["photos/a.png", "https://example.com/b.png", "photos/gone.png", "../private.png", ""]
    lines = ["image,label", *(f"{cell},cat" for cell in cells)]
    (tmp_path / "photos.csv").write_text("\n".join(lines) + "\n")
    done = convert_file(tmp_path / "photos.csv", to=tmp_path / "out.jsonl", columns=Columns(shrink_px=16))
    parts = [example["messages"][0]["content"] for example in Dataset.read(done.to)]
    assert parts[0][0]["text"] == parts[1][0]["text"] == "Which class does this image show?"
    seen = inspect_image(image_bytes(parts[0][1]))
    assert (seen.width_px, seen.height_px) == (16, 8)
    assert parts[1][1] == {"type": "image_url", "image_url": {"url": "https://example.com/b.png"}}
    assert [(skipped.line, skipped.reason.partition(";")[0]) for skipped in done.skipped] == [
        (4, "photos/gone.png cannot be read: No such file or directory"),
        (5, "../private.png lies outside of the folder of the table"),
        (6, "the image is empty"),
    ]


def test_texts_beside_images_and_several_labels(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "t.csv").write_text("caption,file,tags\nA cat,a.png,animal; pet\nA void,a.png,\n")
    columns = Columns(prompt="caption", image="file", answer="tags", label_separator=";")
    done = convert_file(tmp_path / "t.csv", to=tmp_path / "out.jsonl", columns=columns)
    examples = [example["messages"] for example in Dataset.read(done.to)]
    assert [example[-1]["content"] for example in examples] == ['["animal", "pet"]', "[]"]
    assert [part["type"] for part in examples[0][0]["content"]] == ["text", "image_url"]
    assert examples[0][0]["content"][0]["text"] == "A cat"


def test_a_column_of_images_beside_one_of_texts_is_found_too(tmp_path):
    """Whoever names the column that asks says what to show: then an image is shown if one is named as well."""
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "t.csv").write_text("text,image,label\nWhat is it?,a.png,cat\n")
    found = preview(tmp_path / "t.csv")
    assert (found.columns.prompt, found.columns.image) == ("text", "image")
    text, image = found.examples[0]["messages"][0]["content"]
    assert text["text"] == "What is it?"
    assert image_bytes(image) == (tmp_path / "a.png").read_bytes()
    alone = preview(tmp_path / "t.csv", columns=Columns(prompt="text"))
    assert alone.examples[0]["messages"][0]["content"] == "What is it?"


PAIR = {"prompt": "What is it?", "completion": " A cat"}
ALPACA = {"instruction": "Name it.", "input": "In one word.", "output": "Cat"}
TALK = {
    "conversations": [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A cat"},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "Yes"},
    ]
}
CHOSEN = {"prompt": "What is it?", "chosen": "A cat", "rejected": "A dog"}


def first_question(example: dict) -> list[str] | str:
    """The parts of the first message, images by their width."""
    content = (example.get("messages") or example["input"]["messages"])[0]["content"]
    if isinstance(content, str):
        return content
    return [part.get("text") or inspect_image(image_bytes(part)).width_px for part in content]


@pytest.mark.parametrize(
    ("record", "question"),
    [
        (PAIR, ["What is it?", 24]),
        (ALPACA, ["Name it.\n\nIn one word.", 24]),
        (TALK, [24, "What is it?"]),
        (CHOSEN, ["What is it?", 24]),
    ],
)
def test_an_image_beside_a_record_of_a_known_shape_is_shown_with_its_first_question(tmp_path, record, question):
    """Where `<image>` stands, if it does; a record without an image stays text, one whose image is gone is named."""
    (tmp_path / "a.png").write_bytes(picture())
    records = [record, {**record, "image": "a.png"}, {**record, "image": None}, {**record, "image": "gone.png"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, records)))
    done = convert_file(tmp_path / "t.jsonl", to=tmp_path / "out.jsonl")
    assert done.skipped == [(4, "gone.png cannot be read: No such file or directory")]
    assert "with images in `image`" in str(done.recognition)
    text, shown, text_again = Dataset.read(done.to)
    assert first_question(shown) == question
    assert isinstance(first_question(text), str)
    assert text_again == text


def test_pairs_in_a_table_keep_their_images(tmp_path):
    """As in other tables, a row without one asks without it, and options hold for them."""
    (tmp_path / "a.png").write_bytes(picture(size=(64, 32)))
    (tmp_path / "t.csv").write_text("prompt,completion,image\nWhat is it?,cat,a.png\nWhat is it?,cat,\n")
    done = convert_file(
        tmp_path / "t.csv", to=tmp_path / "out.jsonl", columns=Columns(shrink_px=16, system="Be brief.")
    )
    shown, text = (example["messages"] for example in Dataset.read(done.to))
    assert shown[0] == text[0] == {"role": "system", "content": "Be brief."}
    assert inspect_image(image_bytes(shown[1]["content"][1])).width_px == 16
    assert text[1]["content"] == "What is it?"
    assert done.skipped == []


def test_rows_of_texts_whose_image_is_empty_ask_without_one(tmp_path):
    """One that is named and gone is left out with the reason; who names the column wants one in each row."""
    (tmp_path / "a.png").write_bytes(picture())
    lines = ["text,label,image", "Lamp,tech,", "Door,house,a.png", "Card,bank, ", "Key,house,gone.png", ",house,"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    done = convert_file(tmp_path / "t.csv", to=tmp_path / "out.jsonl")
    assert [first_question(example) for example in Dataset.read(done.to)] == ["Lamp", ["Door", 24], "Card"]
    assert done.skipped == [
        (5, "gone.png cannot be read: No such file or directory"),
        (6, "the image is empty"),
    ]
    named = convert_file(tmp_path / "t.csv", to=tmp_path / "named.jsonl", columns=Columns(image="image"))
    assert [skipped.line for skipped in named.skipped] == [2, 4, 5, 6]


@pytest.mark.parametrize("names", ["text,label", "prompt,completion", "instruction,output"])
@pytest.mark.parametrize("cell", ["no", "gone.png", "a\0.png"])
def test_a_column_without_images_is_none_of_images_whatever_its_name(tmp_path, names, cell):
    """It is said, and why; only where it is the only one that could ask, or is named, are its rows left out."""
    asked, answered = names.split(",")
    rows = [{asked: "Lamp", answered: "tech", "photo": photo} for photo in ("", cell, cell)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = convert_file(tmp_path / "t.jsonl", to=tmp_path / "out.jsonl")
    assert [first_question(example) for example in Dataset.read(done.to)] == ["Lamp"] * 3
    assert "no images in `photo` (" in str(done.recognition)
    assert "with images" not in str(done.recognition)
    assert done.columns is None or done.columns.image is None
    for columns in (Columns(image="photo"), Columns(image="photo", prompt=asked)):
        named = preview(tmp_path / "t.jsonl", columns=columns)
        assert (named.n_read, named.examples, len(named.skipped)) == (3, [], 3)


def test_a_column_of_images_that_begins_with_empty_cells_is_one(tmp_path):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "t.csv").write_text("text,label,image\n" + "Lamp,tech,\n" * 30 + "Door,house,a.png\n")
    done = convert_file(tmp_path / "t.csv", to=tmp_path / "out.jsonl")
    assert [first_question(example) for example in Dataset.read(done.to)] == ["Lamp"] * 30 + [["Door", 24]]


def test_texts_with_places_for_images_do_not_become_examples_without(tmp_path):
    (tmp_path / "t.jsonl").write_text(json.dumps({**TALK, "image": "gone.png"}) + "\n")
    done = convert_file(tmp_path / "t.jsonl", to=tmp_path / "out.jsonl")
    assert done.skipped == [(1, "gone.png cannot be read: No such file or directory")]


def test_images_are_looked_for_in_the_folder_that_is_named(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(picture())
    (tmp_path / "t.csv").write_text("text,label,image\nDoor,house,a.png\n")
    found = preview(tmp_path / "t.csv", columns=Columns(folder=tmp_path / "photos"))
    assert [first_question(example) for example in found.examples] == [["Door", 24]]


def test_several_images_stand_where_the_text_has_places_for_them(tmp_path):
    for name, width in (("a", 24), ("b", 32)):
        (tmp_path / f"{name}.png").write_bytes(picture(size=(width, 16)))
    ask = "Is <image> like <image>, too?"
    records = [
        {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "No"}], "images": images}
        for content, images in [(ask, ["a.png", "b.png"]), ("Alike?", ["a.png", "b.png"]), (ask, ["a.png"]), (ask, [])]
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, records)))
    done = convert_file(tmp_path / "t.jsonl", to=tmp_path / "out.jsonl")
    found = [first_question(example) for example in Dataset.read(done.to)]
    assert found == [["Is", 24, "like", 32, ", too?"], ["Alike?", 24, 32], ask]
    assert done.skipped == [(3, "its texts have 2 places for images (<image>), and it has 1")]


def test_an_image_beside_a_chat_that_shows_its_own_is_left_out(tmp_path):
    """Its parts say what is shown, and where."""
    (tmp_path / "a.png").write_bytes(picture())
    shown = {"type": "image_url", "image_url": {"url": "https://example.com/b.png"}}
    asked = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, shown]}
    messages = [asked, {"role": "assistant", "content": "A cat"}]
    (tmp_path / "t.jsonl").write_text(json.dumps({"messages": messages, "image": "a.png"}) + "\n")
    done = convert_file(tmp_path / "t.jsonl", to=tmp_path / "out.jsonl")
    assert [example["messages"] for example in Dataset.read(done.to)] == [messages]


def test_images_in_parquet_as_the_datasets_library_writes_them(tmp_path):
    content = picture()
    frame = pl.DataFrame({"image": [{"bytes": content, "path": "a.png"}], "label": ["cat"]})
    frame.write_parquet(tmp_path / "t.parquet")
    done = convert_file(tmp_path / "t.parquet", to=tmp_path / "out.jsonl")
    (example,) = Dataset.read(done.to)
    assert image_bytes(example["messages"][0]["content"][1]) == content


def test_decoded_images_as_rows_of_the_datasets_library_have_them():
    """A JPEG stays one, with its quality; the others become PNG, and what PNG cannot hold is left out."""
    photo = Image.open(io.BytesIO(picture("JPEG")))
    images = [
        photo,
        Image.effect_noise((24, 16), 50).convert("RGB"),
        Image.new("L", (24, 16)),
        Image.new("F", (24, 16)),
    ]
    rows = [{"image": image, "label": "cat"} for image in images]
    found = list(convert_rows(rows, columns=Columns(image="image", answer="label")))
    seen = [image_bytes(example["messages"][0]["content"][1]) for example in found]
    assert [inspect_image(content).format for content in seen] == ["jpeg", "png", "png"]
    assert Image.open(io.BytesIO(seen[0])).quantization == photo.quantization
    assert Image.open(io.BytesIO(seen[1])).tobytes() == images[1].tobytes()


def test_without_pillow_images_are_taken_by_their_headers(tmp_path):
    """In a process that cannot import Pillow: RGB images pass as they are, others say what to install."""
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.png").write_bytes(picture())
    (tmp_path / "cat/b.png").write_bytes(picture(mode="L"))
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from ftclient.data.convert import convert_file\n"
        f"done = convert_file({str(tmp_path)!r}, to={str(tmp_path / 'out.jsonl')!r})\n"
        "print(done.n_written, done.skipped[0].reason)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith('1 cat/b.png is not an RGB image of JPEG, PNG or WebP; pip install "ftclient[data]"')
