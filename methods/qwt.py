"""QwT: a linear map in half precision beside each block of a model that RepQ-ViT quantised, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import BadInput, BitSpec, Calibration, Method, PreparedModel, Unsupported, report
from vitptq.bench.contracts.method import Category
from vitptq.bench.contracts.reporting import note_table
from vitptq.bench.contracts.side_branch import SideBranch
from vitptq.methods.core.layerwise.block_regression import missing_outputs, regression_halves
from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.search.recording import FirstImages
from vitptq.methods.repq_vit import RepQViT


@dataclass(frozen=True)
class QwT(Method):
    """Every block gets a branch y = f^(x) + x W + c that makes up for its own quantisation error. No training.

    1. RepQ-ViT quantises the model on the first 32 images.
    2. Block by block, on inputs from the compensated blocks before: Y = f(x) - f^(x), with the same x in both, and
       [W; c] = (A^T A)^-1 A^T Y, A the inputs with a column of ones, all tokens of all images as rows.
    3. The branch is kept where R^2 is above 0: fitted on one half of the images, judged on the other.

    It adds C^2 + C parameters and C^2 multiply-accumulates per token to each block, in half precision: its rows are a
    category of their own.
    """

    name = "qwt"
    title = "RepQ-ViT + QwT"
    fidelity = "inferred"
    inferred = (
        "from a description of the released scripts; no code was compared",
        "R^2 is judged on images that the fit did not see (released: on those of the fit, where it is never below 0; "
        'judge="fit" does that), after which all images are fitted',
        "a ridge of 1e-6 of the mean square of the inputs (released: none, which fails on channels that never vary)",
        "branches stand beside the blocks with attention that read tokens; maps of hybrid models get none (released: "
        "1x1 convolutions in groups of 64 channels), patch merging has other channels behind it",
        "calibration images in the evaluation's transform (released: the training transform)",
        "half precision is simulated: numbers are rounded to it and multiplied in float32",
    )
    paper = "Fu et al., Quantization without Tears, CVPR 2025, arXiv 2411.13918"
    category: ClassVar[Category] = "float-branch"

    base_images: int = 32
    """Calibration images that RepQ-ViT sees; the branches are fitted on all."""
    judge: Literal["half", "fit"] = "half"
    first_block: int = 0
    """Blocks in front of this one get no branch."""

    def __post_init__(self) -> None:
        if self.base_images < 1 or self.first_block < 0:
            raise BadInput(f"{self}: base_images is 1 or more, first_block 0 or more")

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the quantised model with its branches."""
        if not bits.branch:
            raise Unsupported(f"{self.title} adds float side branches: give it {bits}+branch")
        net = RepQViT().calibrated(model, FirstImages(calibration, self.base_images), bits.plain)
        twin = net.twin()
        blocks = [name for name, block in net.blocks() if any(isinstance(part, MatMul) for part in block.modules())]
        rows = []
        for number, name in enumerate(blocks[self.first_block :]):
            report("side branches", number, len(blocks) - self.first_block)
            rows.append({"block": name, "R²": self._compensate(net, twin, calibration, name)})
        if all(row["R²"] is None for row in rows):
            raise Unsupported(f"no block of {type(model).__name__} has tokens and attention: no place for a branch")
        note_table("side branches", rows, "Share of a block's quantisation error that its branch explains, by default "
                   "on images that the fit did not see; at 0 or below there is no branch.")  # fmt: skip
        return net.model

    def _compensate(self, net: PreparedModel, twin: PreparedModel, calibration: Calibration, name: str) -> float | None:
        """Give a block its branch where that helps, and return R^2; None for a block without tokens."""
        halves = regression_halves(missing_outputs(net, twin, calibration, name))
        if halves is None:
            return None
        one, other = halves
        both = one + other
        judged, fitted = (other, one) if self.judge == "half" else (both, both)
        explained = judged.explained(fitted.solution())
        if explained > 0:
            add_branch(net.model.get_submodule(name), both.solution())
        return round(explained, 6)


def add_branch(block: nn.Module, solution: Tensor) -> None:
    """Let a block put out what it did, and x W + c of what it reads; `solution` is [W; c], (channels + 1, channels)."""
    block.add_module("side_branch", SideBranch(solution[:-1].T, solution[-1]))
    block.register_forward_hook(_with_branch)


def _with_branch(block: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    added: Tensor = block.get_submodule("side_branch")(args[0])
    return output + added
