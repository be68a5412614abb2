"""The pretrained parts of the paper-scale preset at toy sizes, of the real classes and saved in the real layout, for tests."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import numpy as np
import torch
import yaml

from harmowam_core.presets import PRESETS_DIR
from harmowam_core.stages import Observation
from harmowam_core.wan_preset import WanPreset

huggingface_hub.constants.HF_HUB_OFFLINE = True  # what a test does not find on the disk, it must not look for on the network
WIDTH = 48
TEXT_WIDTH = 16
VISUAL_WIDTH = 24


def toy_preset(**changes: object) -> WanPreset:
    """The paper's preset with small networks, and sources that do not exist."""
    settings = yaml.safe_load((PRESETS_DIR / "wan2_2_5b.yaml").read_text())
    settings |= {
        "name": "toy",
        "scene_size": [64, 96],
        "sources": {"wan": "nobody/wan", "siglip": "nobody/siglip", "dinov2": "nobody/dinov2"},
        "video": {"flow_shift": 5.0, "tap_block": 1, "hidden_dim": WIDTH, "text_tokens": 12},
        "predictive": {"dim": 32, "depth": 3, "heads": 2, "train_timesteps": 100, "denoising_steps": 4},
        "reactive": {"channels": 16, "dilations": [1, 2], "orientations": 2, "hidden": 32},
        "gate": {"hidden": 16},
    }
    return WanPreset.model_validate(settings | changes)


def save_toy_wan(folder: Path) -> None:
    """Video transformer, VAE, text encoder and tokenizer below ``folder``, as diffusers lays out Wan 2.2 TI2V 5B."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=WIDTH // 2,
        in_channels=4,
        out_channels=4,
        text_dim=TEXT_WIDTH,
        freq_dim=16,
        ffn_dim=2 * WIDTH,
        num_layers=3,
    )
    transformer.save_pretrained(folder / "transformer")
    vae = AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.1, 0.0, 0.2],
        latents_std=[0.5, 0.6, 0.7, 0.8],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )
    vae.save_pretrained(folder / "vae")
    words = ["▁put", "▁the", "▁banana", "▁on", "▁plate", "▁stack", "▁cans", "▁"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((word, -2.0) for word in words)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    tokenizer.save_pretrained(folder / "tokenizer")
    config = UMT5Config(vocab_size=len(vocabulary), d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")


def save_toy_vision(weights: Path) -> None:
    """SigLIP's vision tower and DINOv2 as ``weights``/siglip and ``weights``/dinov2: 4 x 4 and 3 x 3 patches."""
    from transformers import Dinov2Config, Dinov2Model, SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(1)
    small = {"hidden_size": VISUAL_WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14}
    SiglipVisionModel(SiglipVisionConfig(**small, intermediate_size=32, image_size=56)).save_pretrained(weights / "siglip")
    Dinov2Model(Dinov2Config(**small, image_size=42)).save_pretrained(weights / "dinov2")


def toy_observation(
    preset: WanPreset, stamp_ns: int = 1_000_000_000, instruction: str = "put the banana on the plate", seed: int = 0
) -> Observation:
    """An observation of random images at the preset's sizes, arms at home."""
    cell, rng = preset.load_cell(), np.random.default_rng(seed)
    sizes = {camera.name: preset.scene_size if camera.name == "scene" else preset.wrist_size for camera in cell.cameras}
    return Observation(
        stamp_ns,
        {name: rng.integers(0, 256, (*size, 3), dtype=np.uint8) for name, size in sizes.items()},
        np.array([arm.home_tcp_position for arm in cell.arms], np.float32),
        np.array([arm.home_tcp_orientation for arm in cell.arms], np.float32),
        np.ones(len(cell.arms), np.float32),
        instruction,
    )
