import os
from pathlib import Path

import pytest
import torch
from timm.data import resolve_data_config

from vitptq.tasks.mini.data.digit_images import DATA, read_split
from vitptq.tasks.mini.models import shipped
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS, DATA_CONFIG
from vitptq.tasks.mini.models.outlier import channel_ranges, spread
from vitptq.tasks.mini.models.shipped import WeightsError
from vitptq.tasks.mini.training.classifier import evaluate
from vitptq.tasks.mini.training.model_input import model_input

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return DATA.generate(tmp_path_factory.mktemp("mini") / "imagenet")


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_model_builds_small_and_answers(name: str) -> None:
    model = CLASSIFIERS[name].build().eval()
    assert sum(parameter.numel() for parameter in model.parameters()) < 3_000_000
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_fresh_evaluation_gives_the_published_score(name: str, data: Path) -> None:
    # 500 of 3,000 images: four standard errors of the difference, about 4 points at 93 %.
    assert evaluate(CLASSIFIERS[name].load(), read_split(data, "val", limit=500), device=CPU) == pytest.approx(
        CLASSIFIERS[name].scores["top1"], abs=4
    )


@pytest.mark.parametrize("name", ["mini_vit", "mini_swin"])
def test_the_outlier_variant_is_the_same_function_with_wide_channels(name: str, data: Path) -> None:
    sample = model_input(read_split(data, "train", limit=256).images, CPU)
    plain, wide = CLASSIFIERS[name].load(), CLASSIFIERS[f"{name}_outlier"].load()
    with torch.inference_mode():
        expected = plain(sample)
        assert (wide(sample) - expected).abs().max() <= 1e-5 * expected.abs().max()
    tame = channel_ranges(plain, sample)
    for layer, ranges in channel_ranges(wide, sample).items():
        assert spread(tame[layer]) < 8, layer
        assert 14 < spread(ranges) < 28, layer


def test_timm_reads_the_data_config() -> None:
    found = resolve_data_config({}, pretrained_cfg=CLASSIFIERS["mini_vit"].load().pretrained_cfg)
    assert {key: found[key] for key in DATA_CONFIG} == DATA_CONFIG


def test_changed_weights_are_refused_by_both_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in ("json", "safetensors"):
        os.link(shipped.WEIGHTS / f"mini_vit.{suffix}", tmp_path / f"mini_vit.{suffix}")
    content = bytearray((tmp_path / "mini_vit.safetensors").read_bytes())
    (tmp_path / "mini_vit.safetensors").unlink()
    content[-1] ^= 1
    (tmp_path / "mini_vit.safetensors").write_bytes(content)
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(WeightsError, match=f"expected {CLASSIFIERS['mini_vit'].sha256}"):
        CLASSIFIERS["mini_vit"].load()


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(
        WeightsError, match=r"mini_swin\.safetensors is missing: restore it .* as tasks/mini/README\.md says"
    ):
        CLASSIFIERS["mini_swin_outlier"].load()
