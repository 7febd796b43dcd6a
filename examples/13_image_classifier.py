"""Teach a Vision Transformer the classes of your own pictures: a folder for each class, and a job like any other.

    python examples/13_image_classifier.py google/vit-base-patch16-224-in21k photos/

Without a folder it draws circles, squares and triangles itself; without arguments it takes the model above from the
Hugging Face hub (330 MB). Only the last layer learns, so each picture passes through the model once.
"""

import random
import sys
import tempfile
from math import exp
from pathlib import Path

from PIL import Image, ImageDraw

from ftclient import Client, Dataset, Head, LocalOptions
from ftclient.data.convert import convert_file


def draw(folder: Path) -> Path:
    """Sixteen drawings of each shape, no two alike."""
    corners = {"circle": 40, "square": 4, "triangle": 3}
    dice = random.Random(7)  # noqa: S311 - the same drawings each time
    for shape, n_sides in corners.items():
        (folder / shape).mkdir()
        for i in range(16):
            picture = Image.new("RGB", (64, 64), "white")
            where = (dice.randint(26, 38), dice.randint(26, 38), dice.randint(12, 24))
            ImageDraw.Draw(picture).regular_polygon(where, n_sides, dice.randint(0, 90), fill="navy")
            picture.save(folder / shape / f"{i}.png")
    return folder


with tempfile.TemporaryDirectory() as work:
    model = sys.argv[1] if sys.argv[1:] else "google/vit-base-patch16-224-in21k"
    photos = Path(sys.argv[2]) if sys.argv[2:] else draw(Path(work))
    lines = convert_file(photos, to=Path(work) / "photos.jsonl").to or Path()
    train, valid, test = Dataset.read(lines).split(0.6, 0.2, 0.2)
    client = Client.local(allow_local_paths=True)
    result = client.train(client.plan(train, valid=valid, model=model, local=LocalOptions(tune=Head()))).wait()
    print("Tuned model:", result.model)
    for example in test:
        *asked, label = example["messages"]
        said = client.openai.chat.completions.create(model=result.model, messages=asked, logprobs=True, top_logprobs=2)
        chosen = said.choices[0].logprobs.content[0].top_logprobs
        print(f"{label['content']:10} looks like", ", ".join(f"{one.token} ({exp(one.logprob):.0%})" for one in chosen))
    client.close()
