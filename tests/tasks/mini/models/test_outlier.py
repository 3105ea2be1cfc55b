import copy

import pytest
import torch
from torch import nn

from vitptq.tasks.mini.models.classifiers import mini_swin, mini_vit
from vitptq.tasks.mini.models.outlier import channel_ranges, pairs, plan, spread, widen

BUILDERS = {"vit": mini_vit, "swin": mini_swin}


def seeded(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = BUILDERS[name]().eval()
    # Fresh LayerNorms are all ones and zeros; trained ones are not.
    for pair in pairs(model):
        nn.init.uniform_(pair.norm.weight, 0.5, 1.5)
        nn.init.uniform_(pair.norm.bias, -0.5, 0.5)
    return model


@pytest.mark.parametrize("name", BUILDERS)
def test_the_function_is_the_same_bits(name: str) -> None:
    model, sample = seeded(name), torch.randn(16, 3, 32, 32)
    wide = copy.deepcopy(model)
    widen(wide, plan(model, sample))
    with torch.inference_mode():
        assert torch.allclose(wide(sample), model(sample), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_widest_channel_is_twenty_times_the_median(name: str) -> None:
    model, sample = seeded(name), torch.randn(16, 3, 32, 32)
    before = channel_ranges(model, sample)
    widen(model, plan(model, sample))
    after = channel_ranges(model, sample)
    assert list(after) == list(before)
    for layer, ranges in after.items():
        assert spread(before[layer]) < 5
        assert 16 < spread(ranges) < 25, layer


def test_every_layernorm_but_the_last_takes_part() -> None:
    for build, last in ((mini_vit, "norm"), (mini_swin, "norm")):
        model = build()
        norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
        # Swin's patch embedding normalises what enters the residual stream, so many layers read it.
        assert norms - {pair.name for pair in pairs(model)} <= {last, "patch_embed.norm"}


def test_a_plan_for_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layers\.9\.norm"):
        widen(mini_vit(), {"layers.9.norm": [(0, 4)]})
