"""Finding passages of one's own documents."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from ftclient.errors import DataError, FtclientError
from ftclient.evaluate.retrieval import Index, cited, measure, with_passages
from ftclient.evaluate.retrieval.passages import cut
from ftclient.evaluate.retrieval.prompt import without_citations
from ftclient.evaluate.retrieval.words import size_words, words_of

CARDS = """# Cards

## Lost cards

Call the night desk at once. A new card costs 5 euros and arrives within four days.

## Limits

You can take out 600 euros a day.
"""
OFFICE = (
    "<html><head><title>x</title><style>p {}</style></head><body><h1>Office</h1>"
    "<p>The door <b>code</b> changes on Mondays.</p><script>let a</script></body></html>"
)
RETURNS_JA = "# 返品\n\n返品の送料は当社が負担します。届いてから十四日以内にご連絡ください。\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three documents in two languages."""
    docs = tmp_path / "docs"
    (docs / "ja").mkdir(parents=True)
    (docs / "cards.md").write_text(CARDS)
    (docs / "office.html").write_text(OFFICE)
    (docs / "ja" / "returns.txt").write_text(RETURNS_JA)
    (docs / ".hidden.md").write_text("# secret\n\nnobody finds this door")
    return docs


def first(index: Index, question: str) -> str:
    """The source of the best passage."""
    return index.search(question)[0].passage.source


def test_questions_find_the_passage_that_answers_them(folder: Path, tmp_path: Path) -> None:
    with Index(tmp_path / "index.db") as index:
        changes = index.update(folder)
        assert (changes.n_documents, changes.n_passages, changes.n_read) == (3, 4, 3)
        assert first(index, "What does a new card cost?") == "cards.md#1"
        assert first(index, "How much can I take out in a day?") == "cards.md#2"
        assert first(index, "door code") == "office.html#1"
        assert first(index, "送料は誰が払いますか") == "ja/returns.txt#1"
        assert index.search("nobody finds this secret") == []


def test_headings_are_searched_and_shown(folder: Path, tmp_path: Path) -> None:
    with Index(tmp_path / "index.db") as index:
        index.update(folder)
        hit = index.search("limits")[0]
    assert hit.passage.heading == "Cards > Limits"
    assert hit.word_rank == 1
    assert hit.meaning_rank is None


def test_only_what_changed_is_read_again(folder: Path, tmp_path: Path) -> None:
    with Index(tmp_path / "index.db") as index:
        index.update(folder)
        (folder / "cards.md").write_text("# Cards\n\nA new card is free of charge.\n")
        (folder / "office.html").unlink()
        looked: list[tuple[int, int]] = []
        changes = index.update(folder, progress=lambda done, total: looked.append((done, total)))
        assert (changes.n_read, changes.n_removed, changes.n_passages) == (1, 1, 2)
        assert looked == [(1, 2), (2, 2)]
        assert "free of charge" in index.search("new card")[0].passage.text
        assert all(hit.passage.document != "office.html" for hit in index.search("door code"))
    with Index(tmp_path / "index.db") as index:
        assert index.update(folder).n_read == 0


def colours(texts: Sequence[str]) -> list[list[float]]:
    """Vectors that know one thing: what is about money."""
    return [[1.0, 0.0] if any(word in text for word in ("euros", "price", "600")) else [0.0, 1.0] for text in texts]


def test_meaning_finds_what_shares_no_word(folder: Path, tmp_path: Path) -> None:
    with Index(tmp_path / "index.db", embed=colours, embedder="colours") as index:
        index.update(folder)
        hits = index.search("price")
        assert {hit.passage.document for hit in hits[:2]} == {"cards.md"}
        assert hits[0].meaning_rank == 1
        assert hits[0].word_rank is None
    with Index(tmp_path / "index.db", embed=colours, embedder="another") as index:
        assert index.update(folder).n_read == 3, "vectors of another model are of no use"


def test_what_cannot_be_read_is_named_and_does_not_stop_the_rest(folder: Path, tmp_path: Path) -> None:
    (folder / "latin.txt").write_bytes("Tür".encode("latin-1"))
    (folder / "empty.md").write_text("\n")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    with Index(tmp_path / "index.db") as index:
        changes = index.update(folder)
    assert changes.n_documents == 3
    assert [text.split(":")[0] for text in changes.skipped] == ["broken.pdf", "empty.md", "latin.txt"]
    assert "UTF-8" in changes.skipped[2]


def test_damage_that_the_reader_of_pdfs_stumbles_over_and_odd_names_stop_nothing(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = b"%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[2 0 R]/Count 1>>endobj\n"
    (folder / "loop.pdf").write_bytes(body + b"xref\n0 1\ntrailer<</Root 1 0 R/Size 3>>\nstartxref\n100\n%%EOF")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.md")).write_text("# Menu\n\nSoup on Fridays.")
    with Index(tmp_path / "index.db") as index:
        changes = index.update(folder)
        assert first(index, "soup") == "caf\\xe9.md#1"
    assert [text.split(":")[0] for text in changes.skipped] == ["loop.pdf"]
    assert capfd.readouterr().err == ""


def test_a_page_that_leaves_the_end_of_its_head_out_is_read(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.html").write_text("<!doctype html><head><title>T</title><p>The canteen opens at noon.")
    with Index(tmp_path / "index.db") as index:
        assert index.update(tmp_path / "docs").skipped == ()
        assert index.search("canteen")[0].passage.text.strip() == "The canteen opens at noon."


def test_a_folder_without_documents_and_a_file_that_is_no_index_are_refused(tmp_path: Path) -> None:
    with Index(tmp_path / "index.db") as index, pytest.raises(DataError, match="no such folder"):
        index.update(tmp_path / "none")
    (tmp_path / "docs").mkdir()
    with Index(tmp_path / "index.db") as index, pytest.raises(DataError, match=r"no document in it.*\.pdf"):
        index.update(tmp_path / "docs")
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at")
    with pytest.raises(FtclientError, match="cannot be used as an index"):
        Index(tmp_path / "text.db")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE journal (id)")
    other.close()
    with pytest.raises(FtclientError, match="another kind of file"):
        Index(tmp_path / "other.db")


def test_a_pdf_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    writer = PdfWriter()
    page = writer.add_blank_page(width=400, height=200)
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(b"BT /F1 12 Tf 20 100 Td (The canteen opens at noon.) Tj ET")
    page[NameObject("/Contents")] = writer._add_object(stream)
    with (folder / "canteen.pdf").open("wb") as file:
        writer.write(file)
    with Index(tmp_path / "index.db") as index:
        index.update(folder)
        assert first(index, "When does the canteen open?") == "canteen.pdf#1"


@pytest.mark.parametrize("sentence", ["One two three four five six. ", "返品の送料は当社が負担します。"])
def test_long_paragraphs_are_cut_at_sentences_and_nothing_is_lost(sentence: str) -> None:
    text = "".join(f"{number} {sentence}" for number in range(60))
    passages = cut("a.txt", text, longest_words=40)
    assert max(size_words(each.text) for each in passages) <= 40
    together = " ".join(each.text for each in passages)
    assert all(f"{number} {sentence.strip()}" in together for number in range(60))
    assert [each.number for each in passages] == list(range(1, len(passages) + 1))


def test_a_sentence_without_an_end_is_cut_all_the_same() -> None:
    passages = cut("a.txt", "word " * 1000, longest_words=50)
    assert max(size_words(each.text) for each in passages) <= 55
    assert sum(size_words(each.text) for each in passages) >= 1000


def test_words_have_one_form() -> None:
    assert words_of("Ｃａｒｄ CARD card") == ["card"] * 3
    assert words_of("届いていません") == [*words_of("届きません")[:1], "居る"]
    assert words_of("東京でsushi") == ["東京", "sushi"]


def test_passages_stand_before_the_question_and_citations_lead_back(folder: Path, tmp_path: Path) -> None:
    with Index(tmp_path / "index.db") as index:
        index.update(folder)
        hits = index.search("What does a new card cost?", k=2)
    asked = with_passages([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Cost?"}], hits)
    assert asked[0] == {"role": "system", "content": "Be brief."}
    assert "[1] Cards > Lost cards\nCall the night desk" in asked[1]["content"]
    assert asked[1]["content"].endswith("Question: Cost?")
    assert cited("It costs 5 euros [1][7].", hits) == [hits[0]]
    assert without_citations("It costs 5 euros [1][7].") == "It costs 5 euros."
    assert with_passages([{"role": "user", "content": "Cost?"}], []) == [{"role": "user", "content": "Cost?"}]


def test_searches_are_measured_against_their_sources(folder: Path, tmp_path: Path) -> None:
    with Index(tmp_path / "index.db") as index:
        index.update(folder)
        card, code = index.search("new card"), index.search("door code")
    ranking = measure([(card, "cards.md"), (code, "office.html#1"), (code, "returns.txt")], k=4)
    assert ranking is not None
    assert ranking.hit_rate == pytest.approx(2 / 3)
    assert ranking.mean_reciprocal_rank == pytest.approx(2 / 3)
    assert measure([], k=4) is None
