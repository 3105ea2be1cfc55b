"""The picture beside a link."""

import io

from PIL import Image

from vitptq.bench.website.social_picture import SIZE, social_picture

LINES = [("imagenet, mini", "RepQ-ViT at W4A4")]


def test_the_picture_is_a_small_png_and_the_same_each_time():
    one = social_picture("Which method?", LINES, "5 methods")

    assert one == social_picture("Which method?", LINES, "5 methods")
    assert Image.open(io.BytesIO(one)).size == SIZE
    assert len(one) < 60_000


def test_what_won_is_in_the_picture():
    assert social_picture("Which method?", LINES, "") != social_picture("Which method?", [], "")


def test_names_that_are_too_long_are_cut_inside_the_picture():
    drawn = Image.open(io.BytesIO(social_picture("q" * 200, [("w" * 300, "m" * 300)] * 5, "c" * 400))).convert("RGB")
    margin = {drawn.getpixel((x, y)) for x in range(SIZE[0] - 20, SIZE[0]) for y in range(0, SIZE[1], 7)}

    assert len(margin) == 1
