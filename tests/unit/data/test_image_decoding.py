"""Whatever the bytes of an image are: it comes out as RGB, the right way up, or is refused with a reason."""

import base64
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from ftclient.data import LOCAL_LIMITS, check_file
from ftclient.data.decoding import BadImageError, decode
from local_backend.images import image_issues, with_image_issues
from tests.faults.images import chunk, encoded, png_of_size

PICTURE = Image.fromarray((np.random.default_rng(0).random((64, 48, 3)) * 255).astype(np.uint8))
RAMP_16_BIT = Image.fromarray((np.arange(64 * 48).reshape(64, 48) * 20).astype(np.uint16))


def text_bomb():
    """A small PNG with a comment that unpacks to 100 MB."""
    sound = encoded(PICTURE)
    return sound[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 100_000_000, 9)) + sound[33:]


def strip(width, height):
    return encoded(Image.new("RGB", (width, height), "red"))


def animated(kind):
    return encoded(PICTURE, kind, save_all=True, append_images=[PICTURE.rotate(90)])


def turned():
    orientation = Image.Exif()
    orientation[0x112] = 6  # the camera was held upright
    return encoded(PICTURE, "JPEG", exif=orientation)


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        pytest.param(encoded(PICTURE), 0, id="png"),
        pytest.param(encoded(PICTURE, "WEBP", lossless=True), 0, id="webp"),
        pytest.param(encoded(PICTURE.convert("RGBA")), 0, id="rgba"),
        pytest.param(encoded(PICTURE.convert("CMYK"), "JPEG", quality=95), 25, id="cmyk"),
        pytest.param(encoded(PICTURE.quantize(256)), 25, id="palette"),
        pytest.param(animated("PNG"), 0, id="animated png"),
        pytest.param(animated("GIF"), 25, id="gif"),
    ],
)
def test_formats_and_colours_come_out_as_the_same_picture(content, tolerance):
    found = np.asarray(decode(content), dtype=float)
    assert abs(found - np.asarray(PICTURE, dtype=float)).mean() <= tolerance
    assert decode(content).mode == "RGB"


def test_sixteen_bits_become_eight_by_their_upper_half():
    found = np.asarray(decode(encoded(RAMP_16_BIT)))
    assert (found[..., 0] == np.asarray(RAMP_16_BIT) >> 8).all()


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert decode(encoded(clear)).getpixel((1, 1)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    assert decode(encoded(palette, transparency=0)).getpixel((1, 1)) == (255, 255, 255)


def test_a_photograph_is_turned_as_the_camera_says():
    assert decode(turned()).size == (PICTURE.height, PICTURE.width)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_thirty_megapixels_are_shrunk_by_a_whole_factor(kind):
    assert decode(encoded(Image.new("RGB", (6000, 5000), "red"), kind)).size == (3000, 2500)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        pytest.param(encoded(PICTURE)[:1500], "image_format", "cut off", id="truncated png"),
        pytest.param(encoded(PICTURE, "JPEG")[:700], "image_format", "cut off", id="truncated jpeg"),
        pytest.param(encoded(PICTURE, "WEBP")[:200], "image_format", "damaged", id="truncated webp"),
        pytest.param(
            encoded(PICTURE)[:300] + bytes(200) + encoded(PICTURE)[500:], "image_format", "damaged", id="hole"
        ),
        pytest.param(encoded(PICTURE, "TIFF"), "image_format", "TIFF, not PNG", id="tiff"),
        pytest.param(b"", "image_format", "unknown data", id="empty"),
        pytest.param(png_of_size(60_000, 60_000), "image_too_large", "60,000 x 60,000", id="bomb"),
        pytest.param(text_bomb(), "image_format", "damaged", id="bomb in a comment"),
        pytest.param(strip(4000, 1), "image_too_large", "4,000 x 1 pixels; one side may be", id="long"),
        pytest.param(strip(5, 1001), "image_too_large", "5 x 1,001 pixels; one side", id="tall"),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_a_reason(content, code, words):
    with pytest.raises(BadImageError, match=words) as caught:
        decode(content)
    assert caught.value.code == code


def test_two_hundred_times_as_long_as_wide_is_not_too_long():
    assert decode(strip(600, 3)).size == (600, 3)


def test_content_beyond_the_promised_size_is_not_unpacked():
    assert decode(png_of_size(4, 4)).size == (4, 4)


def line_with(url):
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    return json.dumps({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "7"}]})


def data_url(content):
    return "data:image/png;base64," + base64.b64encode(content).decode()


def test_the_check_finds_bad_images_by_line_and_place(tmp_path):
    urls = [data_url(encoded(PICTURE))] * 9
    urls += [data_url(encoded(PICTURE)[:1500]), data_url(animated("GIF")), data_url(png_of_size(60_000, 60_000))]
    urls += ["https://example.com/cat.png", data_url(encoded(PICTURE.convert("CMYK"), "JPEG")), data_url(b"junk")]
    file = tmp_path / "images.jsonl"
    file.write_text("".join(line_with(url) + "\n" for url in urls), encoding="utf-8")
    report = with_image_issues(check_file(file, limits=LOCAL_LIMITS, encoding=None, max_workers=0), file)
    assert [(issue.line, issue.code, issue.severity) for issue in report.issues] == [
        (10, "image_format", "error"),
        (11, "image_animated", "warning"),
        (12, "image_too_large", "error"),
        (13, "image_url_invalid", "error"),
        (15, "image_format", "error"),
    ]
    assert {issue.path for issue in report.issues} == {"/messages/0/content/0/image_url/url"}
    assert (report.n_errors, report.n_warnings) == (4, 1)


def test_the_check_says_what_helps_with_an_image_that_is_too_long(tmp_path):
    file = tmp_path / "images.jsonl"
    file.write_text((line_with(data_url(strip(1000, 4))) + "\n") * 10, encoding="utf-8")
    issues = list(image_issues(file))
    assert [(issue.line, issue.code) for issue in issues] == [(line, "image_too_large") for line in range(1, 11)]
    assert issues[0].hint == "Cut it into pieces, or put a border around it."


def test_a_hosted_check_still_wants_rgb(tmp_path):
    file = tmp_path / "images.jsonl"
    file.write_text((line_with(data_url(encoded(PICTURE.convert("CMYK"), "JPEG"))) + "\n") * 10, encoding="utf-8")
    assert not check_file(file, encoding=None).ok
    assert check_file(file, limits=LOCAL_LIMITS, encoding=None).ok
