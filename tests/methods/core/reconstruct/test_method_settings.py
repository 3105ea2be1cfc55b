"""What methods with a reconstruction share: settings, run-time parameters, notes."""

from __future__ import annotations

import pytest

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages
from vitptq.methods.brecq import BRECQ
from vitptq.methods.core.reconstruct.method_settings import ReconstructionMethod
from vitptq.methods.is_vit import ISViT
from vitptq.methods.mgrq import MGRQ
from vitptq.methods.qdrop import QDrop


class Seeded(RandomImages):
    """Images of a cell with seed 7."""

    seed = 7


@pytest.mark.parametrize("method", [QDrop(), BRECQ(), ISViT(), MGRQ()], ids=lambda method: method.name)
def test_seed_and_budget_reach_the_engine(method: ReconstructionMethod) -> None:
    small = type(method)(memory_mb=3, batch=5)
    settings = small.reconstruction(Seeded())
    assert (settings.seed, settings.memory, settings.batch) == (7, 3 * 2**20, 5)


@pytest.mark.parametrize("cls", [QDrop, BRECQ, ISViT, MGRQ])
def test_a_memory_budget_is_no_part_of_the_identity_but_autocast_is(cls: type[ReconstructionMethod]) -> None:
    plain = cls().identity_parameters()
    assert cls(memory_mb=16).identity_parameters() == plain
    assert cls(autocast="bf16").identity_parameters() == plain | {"autocast": "bf16"}


def test_rounding_parameters_reach_the_engine() -> None:
    method = QDrop(iterations=9, weight_rate=0.5, rounding_weight=0.25, warm_up=0.125)
    settings = method.reconstruction(Seeded())
    assert (settings.iterations, settings.weight_rate) == (9, 0.5)
    assert (settings.rounding_weight, settings.warm_up) == (0.25, 0.125)


@pytest.mark.parametrize(("bits", "steps"), [("W3A3", 1000), ("W4A6", 1000), ("W6A6", 200)])
def test_weight_training_is_shorter_from_six_bits_on(bits: str, steps: int) -> None:
    settings = ISViT().weight_training(Seeded(), BitSpec.parse(bits))
    assert (settings.iterations, settings.weights, settings.scales) == (steps, "ste", False)
    assert ISViT(iterations=4).weight_training(Seeded(), BitSpec.parse(bits)).iterations == 4


def test_fewer_steps_than_usual_are_noted() -> None:
    assert ISViT().notes() == ISViT(iterations=1000).notes() == []
    assert ISViT(iterations=50).notes() == ["reduced: 50 steps per unit, the paper takes 1000"]
