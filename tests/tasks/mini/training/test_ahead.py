"""Images made ahead by worker processes."""

from __future__ import annotations

from functools import partial

import pytest

from vitptq.tasks.mini.training.ahead import ahead
from vitptq.tasks.mini.training.epochs import ClassifierRecipe, epoch_images

TINY = ClassifierRecipe(epochs=2, images=64, batch=32, warmup=1)


@pytest.mark.slow
def test_worker_processes_make_the_same_epochs() -> None:
    found = list(ahead(partial(epoch_images, TINY), range(1, 4), workers=1))
    assert len(found) == 3
    for epoch, (images, labels) in enumerate(found, start=1):
        expected, answers = epoch_images(TINY, epoch)
        assert (images == expected).all() and (labels == answers).all()
