"""The patch embedding's filters by the error of what they put out on float images.

The released codes of AdaLog and APHQ-ViT search them so (arXiv 2407.12951, arXiv 2504.02508): the image stays in float.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.operands import Conv2d, Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.search.bound_search import BoundSearch
from vitptq.methods.core.search.fpcs import Error, FPCSBudget
from vitptq.methods.core.search.gram import unfolded
from vitptq.methods.core.search.grid_errors import quadratic_error
from vitptq.methods.core.search.uniform_search import UniformSearch


def search_stem(net: PreparedModel, calibration: Calibration, budget: FPCSBudget) -> None:
    """Give the patch embedding's filters the scales and zero points of least output error, what they have included."""
    stem = stem_of(net)
    UniformSearch.of_weight(stem, budget).best(stem_error(net, stem, calibration))


def search_stem_bounds(net: PreparedModel, calibration: Calibration, count: int) -> None:
    """Give the patch embedding's filters bounds of least output error: both, the upper, then the lower."""
    stem = stem_of(net)
    search = BoundSearch.of_filters(stem, stem_error(net, stem, calibration), count)
    search.choose("both")
    search.choose("upper")
    search.choose("lower")


def stem_of(net: PreparedModel) -> Conv2d:
    """Return the convolution that reads the image."""
    (stem,) = (m for m in net.model.modules() if isinstance(m, Conv2d) and m.input_operand.role == "stem_input")
    return stem


@torch.no_grad()
def stem_error(net: PreparedModel, stem: Conv2d, calibration: Calibration) -> Error:
    """Return the mean squared error of grids for the filters at the stem's output, per output channel.

    A quadratic form in the change of a filter, as of a linear layer's weight: no candidate needs a pass over the image.
    """
    size = stem.weight[0].numel()
    products, positions = stem.weight.new_zeros(size, size), 0

    def see(slot: Operand, image: Tensor) -> None:
        nonlocal positions
        patches = unfolded(stem, image)[:, 0]  # (n, d, L)
        products.add_((patches @ patches.transpose(1, 2)).sum(0))
        positions += len(patches) * patches.shape[2]

    net.switch(False)
    with watching({stem.input_operand.name: stem.input_operand}, see):
        net.run(calibration)
    weight = stem.weight.detach().flatten(1)  # (out, d)
    nothing = torch.zeros_like(weight)
    return quadratic_error(weight, stem.weight_operand.bits, products / positions, nothing.T, nothing[:, 0])
