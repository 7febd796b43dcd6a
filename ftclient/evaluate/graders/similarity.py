"""How alike two texts are, from 0 to 1, by the libraries that define the measures.

On texts that have nothing to compare the libraries disagree (two empty texts are 0 to rapidfuzz's WRatio and to
rouge-score, and an error to others), and OpenAI's guide says nothing. Here it is the same for all measures: two such
texts are alike (1) if they are the same but for white space around them, and nothing is like such a text otherwise (0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ftclient.errors import MissingDependencyError
from ftclient.evaluate.graders.encoder import cosine

INSTALL = 'pip install "ftclient[evaluate]"'

UNSPACED = r"\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD = re.compile(f"[{UNSPACED}]|(?:(?![{UNSPACED}])[^\\W_])+")
"""A letter of a script that puts no spaces between words, or a run of letters and digits."""


def words(text: str) -> list[str]:
    """Return a text's words in lower case; where a script has no spaces, its letters.

    For ASCII text these are the words of rouge-score's own tokenizer.
    """
    return _WORD.findall(text.lower())


def similarity(metric: str, text: str, reference: str) -> float:
    """Return how alike `text` is to `reference`, from 0 to 1.

    Two empty texts are alike (1), an empty text and another are not (0). The same holds for texts without a single
    letter or digit, but for the cosine, since embeddings know signs and emoji too.

    Args:
        metric: fuzzy_match (rapidfuzz's WRatio, as in OpenAI's own example), bleu (up to four words, smoothed by NLTK's
            method 1), gleu, meteor (words and their stems, no synonyms), rouge_1 to rouge_5 or rouge_l (F-measures), or
            cosine (of static embeddings on this machine, where OpenAI takes text-embedding-3-large).
        text: The text that is graded.
        reference: What it should be like.

    Raises:
        MissingDependencyError: The extra `evaluate` is not installed.
    """
    is_empty = _is_blank if metric == "cosine" else _is_wordless
    if is_empty(text) or is_empty(reference):
        return float(text.strip() == reference.strip())
    try:
        return float(_METRICS[metric](text, reference))
    except ImportError as error:
        raise MissingDependencyError(INSTALL) from error


def _is_blank(text: str) -> bool:
    return not text.strip()


def _is_wordless(text: str) -> bool:
    return not words(text)


def _fuzzy(text: str, reference: str) -> float:
    from rapidfuzz import fuzz, utils

    return float(fuzz.WRatio(text, reference, processor=utils.default_process)) / 100


def _bleu(text: str, reference: str) -> float:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smooth = SmoothingFunction().method1
    return float(sentence_bleu([words(reference)], words(text), smoothing_function=smooth, auto_reweigh=True))


def _gleu(text: str, reference: str) -> float:
    from nltk.translate.gleu_score import sentence_gleu

    return float(sentence_gleu([words(reference)], words(text)))


class _NoSynonyms:
    """Stands in for WordNet, which would have to be downloaded."""

    def synsets(self, _word: str) -> list[Any]:
        return []


def _meteor(text: str, reference: str) -> float:
    from nltk.translate.meteor_score import single_meteor_score

    return float(single_meteor_score(words(reference), words(text), wordnet=_NoSynonyms()))


class _Tokenizer:
    """rouge-score's interface for tokenizers."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def _rouge(kind: str) -> Callable[[str, str], float]:
    def score(text: str, reference: str) -> float:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer([kind], tokenizer=_Tokenizer())
        return float(scorer.score(reference, text)[kind].fmeasure)

    return score


_METRICS: Mapping[str, Callable[[str, str], float]] = {
    "cosine": cosine,
    "fuzzy_match": _fuzzy,
    "bleu": _bleu,
    "gleu": _gleu,
    "meteor": _meteor,
    "rouge_l": _rouge("rougeL"),
    **{f"rouge_{n}": _rouge(f"rouge{n}") for n in range(1, 6)},
}
