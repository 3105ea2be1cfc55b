from pathlib import Path

import numpy as np
import pytest
import torch

from vitptq.tasks.mini.models import shipped
from vitptq.tasks.mini.models.pretrained import PRETRAINED
from vitptq.tasks.mini.training import pretrained_head
from vitptq.tasks.mini.training.pretrained_head import (
    Features,
    HeadRecipe,
    KeptFeatures,
    accuracy,
    choose_head,
    fit_head,
    publish,
)

ENTRY = PRETRAINED["dinov2_vits14"]


def clouds(seed: int, count: int = 200, noise: float = 1.0) -> Features:
    """Two classes around opposite points, one coordinate far wider than the other and both away from zero."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    offsets = (2.0 * labels - 1).unsqueeze(1) * torch.tensor([2.0, 2.0])
    points = offsets + noise * torch.randn(count, 2, generator=generator)
    return {"features": points * torch.tensor([100.0, 1.0]) + torch.tensor([1000.0, -5.0]), "labels": labels}


def test_a_head_reads_features_as_they_are() -> None:
    head, loss = fit_head(clouds(0), 1e-3)
    assert accuracy(head, clouds(1)) > 97
    assert loss < 0.15


def test_more_decay_leaves_smaller_weights() -> None:
    sizes = [float(fit_head(clouds(0), decay)[0].weight.norm().detach()) for decay in (1e-4, 1e-2, 1.0)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_the_decay_that_is_best_on_held_out_features_is_chosen() -> None:
    # 40 coordinates of noise and 30 examples: hardly any decay learns the noise.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(30) % 2
    signal = (2.0 * labels - 1).unsqueeze(1) + 0.5 * torch.randn(30, 1, generator=generator)
    found = {"features": torch.cat([signal, 2 * torch.randn(30, 40, generator=generator)], dim=1), "labels": labels}
    held = torch.arange(400) % 2
    wanted = (2.0 * held - 1).unsqueeze(1) + 0.5 * torch.randn(400, 1, generator=generator)
    other = {"features": torch.cat([wanted, 2 * torch.randn(400, 40, generator=generator)], dim=1), "labels": held}
    decays = (1e-6, 1e-2, 0.1)
    head, rows = choose_head(found, other, decays)
    scores = [row["calibration_pool_accuracy"] for row in rows]
    assert max(scores) > scores[0]
    assert accuracy(head, other) == max(scores)


def test_features_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(self: KeptFeatures, images: list[np.ndarray]) -> torch.Tensor:
        calls.append(len(images))
        return torch.ones(len(images), 2)

    monkeypatch.setattr(KeptFeatures, "compute", counted)
    monkeypatch.setattr(pretrained_head, "CHUNK", 20)
    kept, recipe = KeptFeatures(ENTRY, tmp_path, torch.device("cpu")), HeadRecipe(images=21)
    first = list(kept.training(recipe))
    again = list(kept.training(recipe))
    assert calls == [20, 20]
    assert all(torch.equal(a["labels"], b["labels"]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0]["labels"], first[1]["labels"])


def test_a_published_head_is_found_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, rows = choose_head(clouds(0), clouds(1), (1e-3,))
    publish(ENTRY, head, rows, {"model": ENTRY.name, "top1": 91.0}, tmp_path)
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    assert torch.equal(ENTRY.state()["weight"], head.weight)
    assert ENTRY.scores == {"top1": 91.0}
