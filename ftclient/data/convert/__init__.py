"""Converting tables, collections and exports into training examples, and back.

from ftclient.data.convert import Columns, convert_file
done = convert_file("mails.csv", to="mails.jsonl", columns=Columns(prompt="{subject}: {body}", answer="category"))
print(done.recognition, done.n_written, done.skipped)
"""

from ftclient.data.convert.columns import Columns, find_columns
from ftclient.data.convert.export import export_table
from ftclient.data.convert.files import Conversion, Skipped, convert_file, convert_rows, preview
from ftclient.data.convert.recognise import KINDS, Recognition, recognise
from ftclient.data.convert.shapes import SHAPES, SkipRecordError, shape_of

__all__ = [
    "KINDS",
    "SHAPES",
    "Columns",
    "Conversion",
    "Recognition",
    "SkipRecordError",
    "Skipped",
    "convert_file",
    "convert_rows",
    "export_table",
    "find_columns",
    "preview",
    "recognise",
    "shape_of",
]
