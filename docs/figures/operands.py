"""Draw `docs/operands.svg` and print the table of `docs/operands.md`: `python docs/figures/operands.py`.

How the operands of the embedded models compare with those of a real pretrained one, on 32 calibration images.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch

from vitptq.bench.errors import VitptqError
from vitptq.methods.core.sensitivity.operand_statistics import OperandStatistics, Series, operand_statistics
from vitptq.tasks.mini.classification import MiniImageNet

PICTURE = Path(__file__).parents[1] / "operands.svg"
MODELS = ("dinov2_vits14", "mini_vit", "mini_vit_outlier", "mini_swin", "mini_swin_outlier")
IMAGES = 32

WIDTH, HEIGHT, LEFT, TOP, GAP = 300, 190, 46, 74, 62
DASHES = {"_outlier": "5 3"}
COLOURS = {"dinov2": "#d1242f", "mini_vit": "#0969da", "mini_swin": "#1a7f37"}

Found = Mapping[str, OperandStatistics]
Panel = tuple[str, Callable[[OperandStatistics], Series]]
PANELS: tuple[Panel, ...] = (
    ("behind LayerNorm: widest / median channel", lambda found: found.channel_spread),
    ("residual: largest value / first block's", lambda found: relative(found.residual)),
    ("softmax: mean of a row's largest value", lambda found: found.attention_peak),
)


def main() -> int:
    """Measure, draw and print; return the exit status."""
    try:
        found = {name: measured(name) for name in MODELS}
    except VitptqError as error:
        print(error, file=sys.stderr)
        return 1
    PICTURE.write_text(drawn(found), encoding="utf-8")
    print(table(found), end="")
    return 0


def measured(name: str) -> OperandStatistics:
    """Return the statistics of an embedded model on the first images of the first calibration list."""
    task, device = MiniImageNet(), torch.device("cpu")
    task.prepare()
    return operand_statistics(task.load(name, device), task.calibration(name, IMAGES, 0, device))


def relative(series: Series) -> Series:
    """Return the series as multiples of its first number."""
    first = next(iter(series.values()))
    return {name: value / first for name, value in series.items()}


def table(found: Found) -> str:
    """Return the extremes of every model as a table in Markdown."""
    lines = [
        "| model | widest / median channel, median layer | largest | largest residual, first block | last block "
        "| attention peak, mean | largest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        spread, residual, peak = (
            list(series.values()) for series in (one.channel_spread, one.residual, one.attention_peak)
        )
        numbers = [f"{median(spread):.1f}", f"{max(spread):.1f}", f"{residual[0]:.1f}", f"{residual[-1]:.1f}"]
        numbers += [f"{sum(peak) / len(peak):.2f}", f"{max(peak):.2f}"]
        lines.append(f"| `{name}` | " + " | ".join(numbers) + " |")
    return "\n".join(lines) + "\n"


def drawn(found: Found) -> str:
    """Return the picture: a panel per statistic, a line per model, depth from the first place to the last."""
    width = len(PANELS) * (WIDTH + GAP) + LEFT
    parts = [_HEAD.format(width=width, height=TOP + HEIGHT + 40)]
    for index, (title, of) in enumerate(PANELS):
        left = LEFT + index * (WIDTH + GAP)
        parts += _panel(left, title, {name: list(of(one).values()) for name, one in found.items()})
    parts += _legend(found)
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: int, title: str, lines: Mapping[str, Sequence[float]]) -> list[str]:
    values = [value for line in lines.values() for value in line]
    low, high = _decades(min(values), max(values))
    parts = [f'<text class="name" x="{left}" y="{TOP - 12}">{title}</text>']
    for tick in _ticks(low, high):
        y = _height(tick, low, high)
        parts.append(f'<path class="rule" d="M{left} {y:.1f}h{WIDTH}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for name, line in lines.items():
        steps = max(1, len(line) - 1)
        points = [(left + WIDTH * i / steps, _height(value, low, high)) for i, value in enumerate(line)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="line" style="{_style(name)}" d="M{path}"><title>{name}</title></path>')
    y = TOP + HEIGHT + 18
    parts.append(f'<text class="tick" x="{left}" y="{y}">first</text>')
    parts.append(f'<text class="tick" x="{left + WIDTH}" y="{y}" text-anchor="end">last</text>')
    return parts


def _legend(names: Mapping[str, object]) -> list[str]:
    parts = []
    for i, name in enumerate(names):
        x = LEFT + 200 * i
        parts.append(f'<path class="line" style="{_style(name)}" d="M{x} 30h28"/>')
        parts.append(f'<text x="{x + 34}" y="34">{name}</text>')
    return parts


def _style(name: str) -> str:
    colour = next(colour for start, colour in COLOURS.items() if name.startswith(start))
    dash = next((dash for end, dash in DASHES.items() if name.endswith(end)), "none")
    return f"stroke:{colour};stroke-dasharray:{dash}"


def _decades(low: float, high: float) -> tuple[float, float]:
    """Return the axis: from the 1, 2 or 5 times a power of ten below the values to the one above."""
    steps = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 2, 5)]
    return max(step for step in steps if step <= low * 1.001), min(step for step in steps if step >= high * 0.999)


def _ticks(low: float, high: float) -> list[float]:
    steps = [factor * 10.0**power for power in range(-6, 7) for factor in (1, 2, 5)]
    return [step for step in steps if low * 0.999 <= step <= high * 1.001]


def _height(value: float, low: float, high: float) -> float:
    return TOP + HEIGHT * (1 - math.log(value / low) / math.log(high / low))


_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title" \
font-family="system-ui, sans-serif" font-size="13">
<title id="title">Channels behind LayerNorm, residual stream and attention of the embedded models and a real one</title>
<style>
.page {{ fill: #ffffff }} text {{ fill: #1f2328 }}
.tick {{ fill: #57606a; font-size: 11.5px }} .name {{ font-weight: 600 }}
.rule {{ stroke: #d0d7de; stroke-width: 1 }} .line {{ fill: none; stroke-width: 2.2 }}
@media (prefers-color-scheme: dark) {{
.page {{ fill: #0d1117 }} text {{ fill: #e6edf3 }} .tick {{ fill: #9198a1 }} .rule {{ stroke: #30363d }}
.line {{ filter: brightness(1.5) }}
}}
</style>
<rect class="page" width="100%" height="100%"/>"""


if __name__ == "__main__":
    sys.exit(main())
