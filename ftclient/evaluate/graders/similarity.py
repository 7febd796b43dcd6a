"""How alike two texts are, from 0 to 1, by the libraries that define the measures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ftclient.errors import MissingDependencyError
from ftclient.evaluate.graders.encoder import cosine

INSTALL = 'pip install "ftclient[evaluate]"'

_UNSPACED = r"\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD = re.compile(f"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\\W_])+")
"""A letter of a script that puts no spaces between words, or a run of letters and digits."""


def words(text: str) -> list[str]:
    """Return a text's words in lower case; where a script has no spaces, its letters.

    For ASCII text these are the words of rouge-score's own tokenizer.
    """
    return _WORD.findall(text.lower())


def similarity(metric: str, text: str, reference: str) -> float:
    """Return how alike `text` is to `reference`, from 0 to 1.

    Args:
        metric: fuzzy_match (rapidfuzz's WRatio, as in OpenAI's own example), bleu (up to four words, smoothed by NLTK's
            method 1), gleu, meteor (words and their stems, no synonyms), rouge_1 to rouge_5 or rouge_l (F-measures), or
            cosine (of static embeddings on this machine, where OpenAI takes text-embedding-3-large).
        text: The text that is graded.
        reference: What it should be like.

    Raises:
        MissingDependencyError: The extra `evaluate` is not installed.
    """
    try:
        return float(_METRICS[metric](text, reference))
    except ImportError as error:
        raise MissingDependencyError(INSTALL) from error


def _fuzzy(text: str, reference: str) -> float:
    from rapidfuzz import fuzz, utils

    return float(fuzz.WRatio(text, reference, processor=utils.default_process)) / 100


def _bleu(text: str, reference: str) -> float:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    ours, theirs = words(text), words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    smooth = SmoothingFunction().method1
    return float(sentence_bleu([theirs], ours, smoothing_function=smooth, auto_reweigh=True))


def _gleu(text: str, reference: str) -> float:
    from nltk.translate.gleu_score import sentence_gleu

    ours, theirs = words(text), words(reference)
    return float(sentence_gleu([theirs], ours)) if ours and theirs else float(ours == theirs)


class _NoSynonyms:
    """Stands in for WordNet, which would have to be downloaded."""

    def synsets(self, _word: str) -> list[Any]:
        return []


def _meteor(text: str, reference: str) -> float:
    from nltk.translate.meteor_score import single_meteor_score

    ours, theirs = words(text), words(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    return float(single_meteor_score(theirs, ours, wordnet=_NoSynonyms()))


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
