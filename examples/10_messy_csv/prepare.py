r"""From a messy table of support mails, English and Japanese, to clean, split and described training data.

    python examples/10_messy_csv/prepare.py [FOLDER]      writes to FOLDER, or to ./prepared

The same on the command line:

    ftclient convert mails.csv --prompt "{Subject}\n\n{Body}" --answer Team --system "..." --to mails.jsonl
    ftclient clean mails.jsonl --fix --to clean.jsonl \
        --step html,width,white_space,labels,redact,duplicates,near_duplicates
    ftclient split clean.jsonl --shares 80,10,10
    ftclient report clean.jsonl --model gpt-4.1-mini --html report.html
"""

import sys
from pathlib import Path

import rich

from ftclient.data.clean import SAFE_STEPS, clean_file
from ftclient.data.convert import Columns, convert_file
from ftclient.data.describe import describe
from ftclient.data.split_files import leaks_between, split_file

MAILS = Path(__file__).with_name("mails.csv")
TASK = "Name the team that answers this mail: delivery, billing, returns, account or product."


def main(folder: Path) -> None:
    """Take the table through all four steps, and show what each of them found."""
    folder.mkdir(parents=True, exist_ok=True)

    columns = Columns(prompt="{Subject}\n\n{Body}", answer="Team", system=TASK)
    made = convert_file(MAILS, to=folder / "mails.jsonl", columns=columns, overwrite=True)
    print(f"{made.recognition}\n{made.n_written} examples, {len(made.skipped)} rows left out:")
    for row in made.skipped:
        print(f"  line {row.line}: {row.reason}")

    steps = [*SAFE_STEPS, "html", "width", "white_space", "labels", "redact", "duplicates", "near_duplicates"]
    cleaned = clean_file(folder / "mails.jsonl", to=folder / "clean.jsonl", steps=steps, fix=True, overwrite=True)
    rich.print(cleaned)

    train, valid, test = split_file(folder / "clean.jsonl", (0.8, 0.1, 0.1), seed=7, overwrite=True)
    print(f"{len(train.lines)} to train, {len(valid.lines)} to validate, {len(test.lines)} to test")
    print(f"{len(leaks_between(test.path, train.path))} mails of the test are known from training")

    description = describe(folder / "clean.jsonl", model="gpt-4.1-mini")
    rich.print(description)
    for lang in ("en", "ja"):
        print("Open in a browser:", description.write_html(folder / f"report.{lang}.html", lang=lang))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "prepared"))
