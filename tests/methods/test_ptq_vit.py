"""PTQ-ViT 2021: correlation, ranking loss and bias correction by hand, and where each is used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods import ptq_vit
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.search.module_run import Call, ModuleRun, switched
from vitptq.methods.core.search.recording import sides
from vitptq.methods.ptq_vit import PTQViT, disorder, dissimilarity

W3A3 = BitSpec(3, 3)


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_similarity_is_pearson_s() -> None:
    out, target = drawn(4, 9, seed=1), drawn(4, 9, seed=2)
    expected = np.corrcoef(out.flatten().numpy(), target.flatten().numpy())[0, 1]
    assert abs(dissimilarity(3 * out + 5, Call((), {}, target)).item() + expected) < 1e-5


def test_scores_in_their_order_and_far_enough_apart_lose_nothing() -> None:
    scores = torch.tensor([[[[0.0, 10.0, 20.0, 30.0]]]])
    assert disorder(scores, Call((), {}, scores), 0.2).item() == 0
    assert disorder(scores.flip(-1), Call((), {}, scores), 0.2).item() > 1


def test_the_ranking_loss_by_hand() -> None:
    target, now = torch.tensor([[[[-1.0, 1.0]]]]), torch.tensor([[[[0.25, -0.25]]]])  # spread 1, the order wrong
    torch.testing.assert_close(disorder(now, Call((), {}, target), 0.2), torch.tensor(0.7))


def test_only_the_product_of_queries_and_keys_is_ranked() -> None:
    net = prepare(two_block_models()["ViT"], W3A3)
    qk, av = net.model.get_submodule("blocks.0.attn.qk"), net.model.get_submodule("blocks.0.attn.av")
    assert PTQViT().loss(qk) is not dissimilarity  # type: ignore[arg-type]
    assert PTQViT().loss(av) is dissimilarity  # type: ignore[arg-type]
    assert PTQViT(gamma=0).loss(qk) is dissimilarity  # type: ignore[arg-type]


def test_the_corrected_bias_leaves_no_mean_error() -> None:
    net, images = prepare(two_block_models()["ViT"], W3A3), RandomImages()
    ptq_vit.start(net, images)
    layer = net.model.get_submodule("blocks.0.mlp.fc1")
    assert isinstance(layer, Linear)
    run = ModuleRun(net, images, layer)
    means = []
    for _ in range(2):
        with switched(net, sides(layer)), torch.no_grad():
            means.append((run.output(run.calls[0]) - run.calls[0].target).mean((0, 1)).abs().max().item())
        ptq_vit.correct_bias(run, layer)
    assert means[0] > 1e-3 and means[1] < 1e-6


def test_a_layer_without_a_bias_gets_one() -> None:
    method = PTQViT(candidates=2, rounds=1)
    swin = two_block_models()["Swin"]
    found = method.quantize(swin, RandomImages(), W3A3).get_submodule("layers.1.downsample.reduction").bias
    assert found is not None
    plain = replace(method, correct_bias=False).quantize(swin, RandomImages(), W3A3)
    assert plain.get_submodule("layers.1.downsample.reduction").bias is None
