"""What tells curvature from rounding noise in a perturbation Hessian, for the run's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import JsonValue
from torch import Tensor

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.reporting import note_table
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.sensitivity.fisher import fisher_mc
from vitptq.methods.core.sensitivity.perturbation_hessian import average_perturbation_hessian

QUANTILES = (0.01, 0.5, 0.99)
SAMPLED = 1_000_000
"""torch.quantile takes no more than 16 million values."""
TABLE = "Hessian"

PERTURBATION_TEXT = (
    "H is as published: the difference of two gradients of the predictions' divergence, at outputs moved up and down "
    "by the perturbation. If it measured curvature, ten times the perturbation would give ten times the H. A factor "
    "far below 10 means rounding noise: it does not ask how far the outputs were moved."
)
FISHER_TEXT = (
    "The Fisher diagonal was drawn twice as well: a correlation near 1 of the two means that it belongs to the model "
    "and not to the draw. Both checks look at {images} images; mean, quantiles and the share of zeros are H's."
)


def note_hessian(
    net: PreparedModel,
    some: Calibration,
    found: Mapping[str, Tensor],
    fisher: Mapping[str, Tensor] | None,
    *,
    temperature: float,
    epsilon: float,
    draws: int,
) -> None:
    """Put figures of each unit's H on the run's page, checked on `some` images.

    `fisher` are the Fisher diagonals that a perturbation Hessian is compared with; None where `found` are the Fisher
    diagonals themselves.
    """
    units = list(found)
    columns: dict[str, Mapping[str, JsonValue]] = {}
    text = FISHER_TEXT.format(images=sum(len(batch) for batch in some.batches()))
    if fisher is not None:
        text = f"{PERTURBATION_TEXT} {text}"
        columns["H grows by"] = growth(net, some, units, temperature=temperature, epsilon=epsilon)
    columns["two Fisher diagonals correlate"] = agreement(
        net, some, units, draws=draws, temperature=temperature, seed=some.seed
    )
    figures = statistics(found, fisher)
    rows: list[Mapping[str, JsonValue]] = [
        {"unit": name, **{column: values[name] for column, values in columns.items()}, **figures[name]}
        for name in units
    ]
    note_table(TABLE, rows, text)


def growth(
    net: PreparedModel,
    calibration: Calibration,
    units: Sequence[str],
    *,
    temperature: float = 20.0,
    epsilon: float = 1e-6,
) -> dict[str, float | None]:
    """Return by how much the mean of each unit's H grows where the perturbation grows tenfold.

    10 if H measures curvature: the difference of two gradients is as long as the way between them. Far less if it is
    rounding noise, which does not ask how far the outputs were moved. None where H is 0.
    """
    small, large = (
        average_perturbation_hessian(net, calibration, units, temperature=temperature, epsilon=e)
        for e in (epsilon, 10 * epsilon)
    )
    means = {name: (h.double().mean().item(), large[name].double().mean().item()) for name, h in small.items()}
    return {name: after / before if before > 0 else None for name, (before, after) in means.items()}


def agreement(
    net: PreparedModel,
    calibration: Calibration,
    units: Sequence[str],
    *,
    draws: int,
    temperature: float = 20.0,
    seed: int,
) -> dict[str, float | None]:
    """Return the correlation of two Fisher diagonals of each unit that were drawn independently, 1 without noise."""
    once, again = (
        fisher_mc(
            net, calibration, units, draws=draws, temperature=temperature,
            generator=torch.Generator(calibration.device).manual_seed((seed + turn) % 2**63),
        )
        for turn in (1, 2)
    )  # fmt: skip
    return {name: correlation(h, again[name]) for name, h in once.items()}


def statistics(
    maps: Mapping[str, Tensor], fisher: Mapping[str, Tensor] | None = None
) -> dict[str, dict[str, JsonValue]]:
    """Return figures of each unit's H for the record, and its correlation with the Fisher diagonals if given."""
    return {name: _figures(h, None if fisher is None else fisher[name]) for name, h in maps.items()}


def _figures(h: Tensor, fisher: Tensor | None) -> dict[str, JsonValue]:
    flat = h.double().flatten()
    some = flat[:: max(1, len(flat) // SAMPLED)]
    levels = some.quantile(some.new_tensor(QUANTILES)).tolist()
    found: dict[str, JsonValue] = {
        "mean": flat.mean().item(),
        "quantiles": dict(zip(map(str, QUANTILES), levels, strict=True)),
        "zero": (flat == 0).double().mean().item(),
    }
    if fisher is not None:
        found["correlation with Fisher"] = correlation(h, fisher)
        found["fisher mean"] = fisher.double().mean().item()
    return found


def correlation(a: Tensor, b: Tensor) -> float | None:
    """Return Pearson's correlation of two maps of one shape; None where one of them is constant.

    >>> correlation(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 4.0, 8.0]))
    1.0
    """
    x, y = (v.double().flatten() - v.double().mean() for v in (a, b))
    norm = (x.norm() * y.norm()).item()
    return round(float(x @ y) / norm, 6) if norm > 0 else None
