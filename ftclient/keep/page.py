"""What was kept and what was not, as one HTML page for a team: no scripts, nothing loaded, no training text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ftclient.data.counted import counted
from ftclient.keep.folder import KeepFolder, safe_name
from ftclient.keep.inventory import NOT_TRIED, WORKS

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_SOON_DAYS = 30
_MOST_STEPS = 10
_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea;
  --bad: #b3261e; --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1a2029; --ink: #e6eaf0; --soft: #9aa6b5;
  --line: #2c3542; --bad: #ff8a80; --good: #6fd08c; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 28px 20px 64px; }
h1 { font-size: 22px; margin: 0; } h2 { font-size: 16px; margin: 0 0 10px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px;
  margin-top: 16px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: 6px 20px 6px 0; border-top: 1px solid var(--line); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; } tr:first-child th { border-top: 0; }
td { overflow-wrap: anywhere; } td:first-child, td.text { min-width: 17ch; } td.s { white-space: nowrap; }
code { font-size: 13px; } ul { margin: 0; padding-left: 18px; }
.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.numbers { display: flex; flex-wrap: wrap; gap: 6px 28px; margin: 14px 0 0; }
.numbers b { display: block; font-size: 20px; } .soft { color: var(--soft); } .bad { color: var(--bad); }
.good { color: var(--good); }
"""


def write_page(folder: KeepFolder) -> Path:
    """Write `index.html` into the folder and return its path."""
    path = folder.path / "index.html"
    path.write_text(page(folder), encoding="utf-8")
    return path


def page(folder: KeepFolder) -> str:
    """Return the page as a string of HTML."""
    manifest = folder.manifest
    source = str(manifest["source"].get("title") or manifest["source"].get("host", "?"))
    saved_at = manifest["source"].get("saved_at")
    day = time.strftime("%Y-%m-%d", time.gmtime(saved_at)) if saved_at else "never"
    parts = [
        f"<h1>Tuned models kept from {escape(source)}</h1><p class='soft'>Saved on {day}</p>",
        _numbers(folder),
        _section("Models", _models(folder)),
        _section("Trained again on open models", _agreements(manifest.get("agreements", []))),
        _section("What could not be saved", _problems(manifest["problems"])),
        *_next(folder),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Kept from {escape(source)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _numbers(folder: KeepFolder) -> str:
    manifest = folder.manifest
    days = [
        each["days_left"] for each in manifest["models"] if each["days_left"] is not None and each["days_left"] >= 0
    ]
    n_bytes = sum(entry["bytes"] for entry in manifest["files"].values())
    shown = [
        (str(len(manifest["models"])), "tuned models"),
        (str(min(days)) if days else "?", "days until the next one goes"),
        (f"{len(manifest['files'])}", f"files kept ({n_bytes / 1e6:,.1f} MB)"),
        (f"{len(manifest['problems'])}", "things not saved"),
    ]
    return (
        '<div class="numbers">' + "".join(f"<div><b>{a}</b><span>{escape(b)}</span></div>" for a, b in shown) + "</div>"
    )


def _models(folder: KeepFolder) -> str:
    names = ["model", "shuts down", "job", "training file", "golden answers", "still answers"]
    return _table(names, [_model(folder, each) for each in folder.manifest["models"]])


def _model(folder: KeepFolder, model: Mapping[str, Any]) -> list[tuple[str, str]]:
    days, files = model["days_left"], folder.manifest["files"]
    end = "not known" if days is None else f"{model['shutdown']}, {'gone' if days < 0 else counted(days, 'day')}"
    n_golden, answers = _n_golden(folder, model), model["calls"].get("chat")
    return [
        (escape(model["model"]), ""),
        (escape(end), "s bad" if days is not None and days <= _SOON_DAYS else "s"),
        _kept(f"jobs/{safe_name(model['job_id'] or '-')}/job.json" in files),
        _kept(has_training_file(folder, model)),
        (str(n_golden), "n" if n_golden else "n soft"),
        {WORKS: ("yes", "good"), NOT_TRIED: (NOT_TRIED, "soft")}.get(answers or NOT_TRIED, ("no", "bad")),
    ]


def has_training_file(folder: KeepFolder, model: Mapping[str, Any]) -> bool:
    """Whether the data that made a tuned model are in the folder."""
    job = folder.get_json(f"jobs/{safe_name(model['job_id'] or '-')}/job.json") or {}
    return f"files/{safe_name(job.get('training_file') or '-')}.jsonl" in folder.manifest["files"]


def _n_golden(folder: KeepFolder, model: Mapping[str, Any]) -> int:
    return sum(1 for _ in folder.golden(model["model"]))


def _next(folder: KeepFolder) -> Iterator[str]:
    """Yield what is left to do, as commands, if anything is."""
    models = folder.manifest["models"]
    compared = {each["golden"] for each in folder.manifest.get("agreements", [])}
    silent = [
        each for each in models if not _n_golden(folder, each) and each["calls"].get("chat") in (WORKS, NOT_TRIED)
    ]
    open_ = [each for each in models if has_training_file(folder, each) and each["model"] not in compared]
    steps = []
    if silent:
        text = f"Record what {counted(len(silent), 'model')} still answer{'s' if len(silent) == 1 else ''}"
        steps.append((text, f"ftclient --backend {folder.manifest['source'].get('host')} keep record FOLDER"))
    steps += [
        (f"Train {each['model']} again on an open model", f"ftclient keep retrain FOLDER {each['job_id']}")
        for each in open_[:_MOST_STEPS]
    ]
    if steps:
        lines = "".join(f"<li>{escape(text)}: <code>{escape(command)}</code></li>" for text, command in steps)
        yield _section("What is left to do", f"<ul>{lines}</ul>")


def _agreements(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return '<p class="soft">None yet.</p>'
    names = ["hosted model", "open model", "prompts", "same answer", "text in common", "before training"]
    return _table(names, [_agreement(each) for each in found])


def _agreement(each: Mapping[str, Any]) -> list[tuple[str, str]]:
    before = each.get("untuned_similarity")
    return [
        (escape(each["golden"]), ""),
        (escape(each["model"]), "text"),
        (str(each["n"]), "n"),
        (f"{each['exact']:.0%}", "n"),
        (f"{each['similarity']:.0%}", "n"),
        ("" if before is None else f"{before:.0%}", "n soft"),
    ]


def _problems(found: Sequence[Mapping[str, str]]) -> str:
    if not found:
        return '<p class="good">Everything that was asked for has been saved.</p>'
    return _table(["what", "why"], [[(escape(each["what"]), ""), (escape(each["why"]), "text bad")] for each in found])


def _kept(is_here: bool) -> tuple[str, str]:  # noqa: FBT001 - it is the thing shown
    return ("saved", "good") if is_here else ("not saved", "bad")


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inside}</section>"


def _table(header: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Return a table; cells are HTML with a class."""
    kinds = ["n" if kind.startswith("n") else "" for _, kind in rows[0]] if rows else [""] * len(header)
    head = "".join(f'<th class="{kind}">{escape(name)}</th>' for name, kind in zip(header, kinds, strict=True))
    body = "".join("<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for cell, kind in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
