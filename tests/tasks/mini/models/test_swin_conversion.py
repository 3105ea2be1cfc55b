import pytest
import torch
from safetensors.torch import load_file
from timm.models.swin_transformer import SwinTransformer

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from vitptq.tasks.mini.models.scene_configs import _backbone
from vitptq.tasks.mini.models.shipped import WEIGHTS
from vitptq.tasks.mini.models.swin_conversion import openmmlab_swin_state, resized_table, unfold_order
from vitptq.tasks.openmmlab.libraries import Scope
from vitptq.tasks.openmmlab.models import build

WINDOW = 4


@pytest.mark.parametrize("scope", ["mmdet", "mmseg"])
def test_both_libraries_compute_the_same_stages(scope: Scope) -> None:
    state = load_file(WEIGHTS / "mini_swin.safetensors")
    # At 128 pixels every stage has whole windows of 4x4, so timm neither pads nor shrinks one.
    reference = SwinTransformer(
        img_size=128, patch_size=2, embed_dim=32, depths=(2,) * 4, num_heads=(1, 2, 4, 8), window_size=WINDOW,
        num_classes=10, drop_path_rate=0.0,
    )  # fmt: skip
    reference.load_state_dict(
        {key: resized_table(value, WINDOW) if key.endswith("bias_table") else value for key, value in state.items()}
    )
    reference.double().eval()
    backbone = build(_backbone(), scope)
    missing, unexpected = backbone.load_state_dict(openmmlab_swin_state(state, WINDOW), strict=False)
    assert not unexpected
    assert all(key.startswith(("norm0", "norm1", "norm2")) or "relative_position_index" in key for key in missing)
    backbone.double().eval()
    images = torch.randn(1, 3, 128, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stages = reference.forward_intermediates(images, intermediates_only=True)
        outputs = backbone(images)
    for index, (stage, output) in enumerate(zip(stages, outputs, strict=True)):
        normed = getattr(backbone, f"norm{index}")(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(output, normed, rtol=0, atol=1e-9)


def test_patch_merging_gets_the_order_of_unfold() -> None:
    image = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    unfolded = torch.nn.functional.unfold(image, 2, stride=2).transpose(1, 2)  # (1, 4, 8)
    rows_columns = image.reshape(1, 2, 2, 2, 2, 2).permute(0, 2, 4, 5, 3, 1)  # (1, h, w, column, row, C)
    assert torch.equal(unfold_order(rows_columns.reshape(1, 4, 8)), unfolded)


def test_a_table_keeps_its_corners_and_centre_when_its_window_grows() -> None:
    table = torch.arange(9, dtype=torch.float32).reshape(9, 1)
    grown = resized_table(table, 4).reshape(7, 7)
    for at, value in {(0, 0): 0.0, (0, 6): 2.0, (3, 3): 4.0, (6, 6): 8.0}.items():
        assert grown[at] == pytest.approx(value, abs=1e-5)
    assert resized_table(table, 2) is table
