"""What a dataset is like: for the terminal, as JSON, and as one HTML page.

from ftclient.data.describe import describe
description = describe("mails.jsonl", model="gpt-4.1-mini")
description.write_html("mails.html")
"""

from ftclient.data.describe.description import Description, describe
from ftclient.data.describe.trained import Render, Token, tiktoken_render
from ftclient.data.describe.verdict import Advice
from ftclient.data.describe.words import LANGS

__all__ = ["LANGS", "Advice", "Description", "Render", "Token", "describe", "tiktoken_render"]
