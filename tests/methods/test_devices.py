"""Every method on another device than the CPU: an emulated one everywhere, a GPU where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch.utils._pytree import tree_leaves

from tests.emulated_cuda import GPU, emulated_cuda
from tests.methods.device_subjects import CPU, SUBJECTS, methods
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.device_agreement import disagreement, in_one_row

EMULATED = "VITPTQ_GPU_TESTS"
"""Set to "emulated", this environment variable has the tests for GPUs run on the emulated one."""
COMPARED = ("ViT", "Swin", "MobileViT", "Mask R-CNN Swin", "UPerNet Swin")
OTHERS = tuple(subject for subject in SUBJECTS if subject != "ViT")


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    if os.environ.get(EMULATED) == "emulated":
        with emulated_cuda():
            yield GPU
    elif torch.cuda.is_available():
        yield GPU
    else:
        pytest.skip("there is no CUDA device here")


@pytest.mark.parametrize(
    ("subject", "method"),
    [*(("ViT", method) for method in methods()), *((subject, "repq-vit") for subject in OTHERS), ("Swin", "ptq4vit")],
)
def test_nothing_strays_to_another_device(subject: str, method: str) -> None:
    with emulated_cuda():
        quantised = SUBJECTS[subject].quantised(method, GPU)
        tensors = [*quantised.named_parameters(), *quantised.named_buffers()]
        assert not [name for name, x in tensors if x.device != GPU]
        assert {x.device for x in tree_leaves(SUBJECTS[subject].outputs(quantised, GPU))} == {GPU}


@pytest.mark.gpu
@pytest.mark.parametrize("method", methods())
@pytest.mark.parametrize("subject", [subject for subject in SUBJECTS if subject in COMPARED])
def test_gpu_agrees_with_the_cpu(subject: str, method: str, gpu: torch.device) -> None:
    tried = SUBJECTS[subject]

    def quantised(device: torch.device, seed: int) -> torch.Tensor:
        return in_one_row(tried.outputs(tried.quantised(method, device, seed), device))

    expected = in_one_row(tried.outputs(tried.build(), CPU))
    try:
        assert disagreement(expected, quantised, gpu) == ""
    except Unsupported as refusal:
        pytest.skip(str(refusal))
