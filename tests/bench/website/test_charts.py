import itertools

from vitptq.bench.website import charts


def test_labels_keep_apart_and_within_the_plot():
    heights = charts.spread([20.0 + i for i in range(14)], charts.LABEL_GAP, 14.0, 366.0)

    assert all(b - a >= charts.LABEL_GAP - 1e-6 for a, b in itertools.pairwise(sorted(heights)))
    assert max(heights) <= 366.0


def test_long_labels_keep_both_ends():
    assert charts.shorten("Percentile (p=0.999)", 13) == "Percen…0.999)"
    assert charts.shorten("OMSE", 13) == "OMSE"


def test_more_methods_than_colours_still_look_different():
    names = [f"m{i:02}" for i in range(20)]
    drawn = charts.styles(names)

    assert len({(s.colour, s.dash, s.shape) for s in drawn.values()}) == 20
