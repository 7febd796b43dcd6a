"""What a description says, in English and Japanese."""
# ruff: noqa: RUF001  full-width punctuation is how Japanese is written

from __future__ import annotations

from typing import Any

LANGS = ("en", "ja")

_WORDS: dict[str, tuple[str, str]] = {
    "title": ("What this dataset is like", "データセットの概要"),
    "verdict": ("What to mend first", "まず直すべき点"),
    "nothing": (
        "Nothing stands out. Split it, and train.",
        "目立った問題はありません。分割して学習に進めます。",
    ),
    "rank.1": ("mend", "要修正"),
    "rank.2": ("improve", "要改善"),
    "rank.3": ("look", "要確認"),
    "lines": ("lines", "行"),
    "line": ("line", "行"),
    "examples.one": ("example", "件"),
    "examples": ("examples", "件"),
    "errors.one": ("error", "エラー"),
    "errors": ("errors", "エラー"),
    "warnings.one": ("warning", "警告"),
    "warnings": ("warnings", "警告"),
    "tokens": ("Tokens", "トークン"),
    "tokens.total": ("tokens in all", "総トークン数"),
    "tokens.trained": ("trained", "学習対象"),
    "tokens.by_role": ("Tokens by role", "役割別トークン"),
    "tokens.per_example": ("Tokens per example", "1件あたりのトークン数"),
    "tokens.note": ("counted with", "計数:"),
    "tokens.none": ("Tokens were not counted: ", "トークンは数えていません："),
    "context": ("context of the model", "モデルの上限"),
    "turns": ("Messages of the user per example", "1件あたりのユーザー発話数"),
    "trained": ("What is trained", "何が学習されるか"),
    "trained.how": (
        "Marked tokens carry loss: the model learns to write them. It only reads the others.",
        "色の付いたトークンが損失の対象です。モデルはそれを書くことを学び、ほかは読むだけです。",
    ),
    "trained.count": (
        "line {line}: {n_trained} of {n_tokens} tokens are trained",
        "{line}行目：{n_tokens}トークン中{n_trained}が学習対象",
    ),
    "labels": ("Labels", "ラベル"),
    "labels.numbers": (
        "{n} labels, balance {balance} (1 is even), entropy {entropy} bits",
        "{n}種類、均衡度 {balance}（1で均等）、エントロピー {entropy} ビット",
    ),
    "ambiguity": ("Same prompt, different answers", "同じ質問に異なる回答"),
    "ambiguity.near": ("Nearly the same prompt, different answers", "ほぼ同じ質問に異なる回答"),
    "duplicates": ("Duplicates", "重複"),
    "duplicates.numbers": (
        "{exact} exact copies, {near} nearly the same",
        "完全一致 {exact}件、ほぼ一致 {near}件",
    ),
    "languages": ("Languages", "言語"),
    "languages.prompts": ("Prompts", "質問"),
    "languages.answers": ("Answers", "回答"),
    "languages.partly": (
        'Languages of one script cannot be told apart here: pip install "ftclient[data]"',
        '同じ文字を使う言語は判別していません： pip install "ftclient[data]"',
    ),
    "personal_data": ("Personal data and secrets", "個人情報と秘密情報"),
    "answers": ("Format of answers", "回答の形式"),
    "answers.json": ("{share} of the answers are JSON", "回答の{share}がJSON"),
    "answers.refusals": ("{n} of them decline to help ({share})", "うち{n}件（{share}）が拒否"),
    "outliers": ("Outliers", "外れ値"),
    "none": ("none found", "見つかりませんでした"),
    "column.prompt": ("prompt", "質問"),
    "column.answers": ("answers", "回答"),
    "column.kind": ("kind", "種類"),
    "column.where": ("where", "場所"),
    "column.found": ("found", "内容"),
    "column.why": ("why", "理由"),
    "column.difference": ("difference", "違い"),
    "column.n": ("times", "回数"),
    "why.length": ("length", "長さ"),
    "why.language": ("language", "言語"),
    "why.garbled": ("garbled text", "文字化け"),
    "rest": ("and {n} more", "ほか{n}件"),
    "other": ("other", "その他"),
    "advice.errors": (
        "The job would fail. Errors: {n} ({codes}). `ftclient clean --fix` mends what can be mended.",
        "学習が失敗するエラーが{n}件あります（{codes}）。`ftclient clean --fix` で直せるものは直せます。",
    ),
    "advice.few_examples": (
        "Examples: {n}, which is few; 50 to 100 good ones are a sensible start.",
        "{n}件は少なめです。質の良い50〜100件が出発点の目安です。",
    ),
    "advice.too_long": (
        "Examples longer than the {limit:,} tokens that the model is trained on: {n}. Their ends are lost.",
        "{n}件がモデルの上限 {limit:,} トークンを超え、末尾が失われます。",
    ),
    "advice.secrets": (
        "Keys or passwords in the text: {n}. Revoke them, and redact the file before it leaves your hands.",
        "鍵やパスワードが{n}件あります。無効化したうえで、外部に渡す前に伏せ字にしてください。",
    ),
    "advice.personal_data": (
        "Examples with personal data ({kinds}): {n}. Models can repeat it verbatim. `ftclient clean --step redact`.",
        "{n}件に個人情報があり（{kinds}）、モデルが再生しかねません。`ftclient clean --step redact`。",
    ),
    "advice.duplicates": (
        "Copies: {n}. Their content weighs more than you may want. `ftclient clean --step duplicates,near_duplicates`.",
        "重複が{n}件あり、その内容が過大に学習されます。`ftclient clean --step duplicates,near_duplicates`。",
    ),
    "advice.garbled": (
        "Examples with garbled text: {n}. The model would learn it. Export them again as UTF-8.",
        "文字化けが{n}件あり、そのまま学習されます。UTF-8で書き出し直してください。",
    ),
    "advice.outliers": (
        "Examples far longer or shorter than the rest: {n}. See whether they belong here.",
        "{n}件が極端に長いか短いです。含めるべきか確認してください。",
    ),
    "advice.ambiguous": (
        "Examples that ask the same and are answered differently: {n}. The model cannot learn both; decide on one.",
        "同じ質問に異なる回答が{n}件あります。両方は学べません。どちらかに決めてください。",
    ),
    "advice.nearly_ambiguous": (
        "Examples that ask nearly the same and have different labels: {n}. See whether that is meant.",
        "ほぼ同じ質問に異なるラベルが{n}件あります。意図どおりか確認してください。",
    ),
    "advice.label_variants": (
        "Labels written in several ways: {n} ({names}). They count as different. `ftclient clean --step labels`.",
        "表記が揺れているラベルが{n}種類あります（{names}）。`ftclient clean --step labels` で統一できます。",
    ),
    "advice.rare_labels": (
        "Rare labels: {n} ({names}). Below {least} examples a label is hardly learnt. Add some, or merge labels.",
        "少ないラベルが{n}種類あります（{names}）。{least}件未満では学びにくいので、追加か統合を検討してください。",
    ),
    "advice.unbalanced": (
        "{share} of all answers are {label} (balance {balance}); the model will lean towards it.",
        "「{label}」が全体の{share}を占めます（均衡度 {balance}）。モデルが偏ります。",
    ),
    "advice.skewed": (
        "Labels that occur in one language only: {n} ({label}: {language}). The model may learn the language instead.",
        "一つの言語にしか現れないラベルが{n}種類あります（例：{label}、{language}）。言語をラベルと取り違えかねません。",
    ),
    "advice.invalid_json": (
        "Answers that look like JSON and are not valid: {n}. The model would learn to break it.",
        "JSONのようで不正な回答が{n}件あります。壊れたJSONを学習してしまいます。",
    ),
    "advice.not_json": (
        "Answers that are not JSON, while {share} are: {n}.",
        "{share}の回答がJSONなのに、{n}件は違います。",
    ),
    "advice.schema_drift": (
        "JSON answers with other keys or types than most: {n} ({example}).",
        "JSONのキーや型が多数派と違う回答が{n}件あります（{example}）。",
    ),
    "advice.refusals": (
        "Answers that decline to help: {n} ({share}). The model will decline more often; keep what is wanted.",
        "{n}件（{share}）の回答が拒否です。モデルの拒否が増えます。意図したものだけ残してください。",
    ),
    "advice.crossed_languages": (
        "Answers in another language than their prompt: {n}.",
        "質問と言語の異なる回答が{n}件あります。",
    ),
    "advice.minor_language": (
        "Only {share} of the prompts are in `{language}`; do not expect much in that language.",
        "`{language}` の質問は{share}だけです。その言語での性能は期待できません。",
    ),
}


def say(key: str, lang: str, **numbers: Any) -> str:
    """A phrase in a language of `LANGS`, with its numbers filled in."""
    phrase = _WORDS[key][LANGS.index(lang)]
    return phrase.format(**numbers) if numbers else phrase


def noun(key: str, lang: str, *, n: int) -> str:
    """The noun for `n` things: English has another one for a single thing."""
    return say(f"{key}.one" if n == 1 else key, lang)
