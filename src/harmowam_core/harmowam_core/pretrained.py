"""Pretrained parts of the paper-scale preset: loading with clear errors, text tokens, visual tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from harmowam_core.backends import BackendError
from harmowam_core.checkpoints import CheckpointError

Statistics = tuple[float, float, float]
HALF: Statistics = (0.5, 0.5, 0.5)
IMAGENET_MEAN: Statistics = (0.485, 0.456, 0.406)
IMAGENET_STD: Statistics = (0.229, 0.224, 0.225)


def load_pretrained(
    loader: Any, part: str, source: str, weights: Path | None, *, subfolder: str = "", dtype: torch.dtype | None = None
) -> Any:
    """A pretrained model (or, without ``dtype``, tokenizer) of ``loader``, a class of transformers or diffusers.

    It comes from the folder ``weights``/``part`` if there is one, else from the hub repository ``source``; only safetensors
    are read. Raises CheckpointError when anything is missing: no layer is ever left at random.
    """
    folder = weights / part if weights is not None else None
    where = str(folder) if folder is not None and folder.is_dir() else source
    remedy = f"get it with `hf download {source} --local-dir {folder or '<weights>/' + part}`"
    try:
        if dtype is None:
            return loader.from_pretrained(where, subfolder=subfolder)
        keyword = "torch_dtype" if loader.__module__.startswith("diffusers") else "dtype"
        model, info = loader.from_pretrained(where, subfolder=subfolder, use_safetensors=True, output_loading_info=True, **{keyword: dtype})
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"cannot load {part}/{subfolder} ({loader.__name__}) from '{where}': {error}; {remedy}") from error
    absent = [*info["missing_keys"], *info["mismatched_keys"]]
    if absent:
        raise CheckpointError(f"'{where}' ({part}/{subfolder}) lacks weights of {loader.__name__}: {sorted(absent)[:3]}; {remedy}")
    return model.eval().requires_grad_(False)


class TextTokens:
    """Instructions to T5 tokens; an instruction is encoded once and kept."""

    def __init__(self, model: nn.Module, tokenizer: Any, length: int) -> None:
        self._model, self._tokenizer, self._length = model, tokenizer, length
        self._cache: dict[str, Tensor] = {}
        config: Any = model.config
        self.dim: int = config.d_model

    @torch.no_grad()
    def encode(self, sentences: list[str]) -> Tensor:
        """Sentences to (B, length, D) in the model's dtype, zero after each sentence's end."""
        for sentence in dict.fromkeys(sentences):
            if not sentence.strip():
                raise ValueError("the instruction is empty; say what to do, e.g. 'put the yellow banana on the plate'")
            if sentence not in self._cache:
                device = next(self._model.parameters()).device
                batch = self._tokenizer(sentence, padding="max_length", truncation=True, max_length=self._length, return_tensors="pt")
                batch = batch.to(device)
                tokens = self._model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
                self._cache[sentence] = tokens[0] * batch.attention_mask[0, :, None].to(tokens.dtype)
        return torch.stack([self._cache[s] for s in sentences])

    @classmethod
    def load(cls, source: str, weights: Path | None, length: int, device: str, dtype: torch.dtype) -> TextTokens:
        """The text encoder that came with Wan 2.2."""
        from transformers import AutoTokenizer, UMT5EncoderModel

        model = load_pretrained(UMT5EncoderModel, "wan", source, weights, subfolder="text_encoder", dtype=dtype)
        tokenizer = load_pretrained(AutoTokenizer, "wan", source, weights, subfolder="tokenizer")
        return cls(model.to(device), tokenizer, length)


class VisualTokens(nn.Module):
    """A frozen vision transformer: images to patch tokens, in its own resolution and normalisation."""

    def __init__(self, model: nn.Module, mean: Statistics, std: Statistics, leading_tokens: int) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        config: Any = model.config
        self.size: int = config.image_size
        self.grid: int = config.image_size // config.patch_size
        self.dim: int = config.hidden_size
        self._leading_tokens = leading_tokens
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, grid * grid, dim) float32."""
        parameter = next(self.model.parameters())
        x = nn.functional.interpolate(images.to(parameter.device), (self.size, self.size), mode="bicubic", antialias=True)
        x = (x.clamp(0, 1) - self.mean.to(x)) / self.std.to(x)
        tokens: Tensor = self.model(x.to(parameter.dtype)).last_hidden_state
        return tokens[:, self._leading_tokens :].float()

    @classmethod
    def siglip(cls, source: str, weights: Path | None, device: str, dtype: torch.dtype) -> VisualTokens:
        """SigLIP's vision tower."""
        from transformers import SiglipVisionModel

        return cls(load_pretrained(SiglipVisionModel, "siglip", source, weights, dtype=dtype), HALF, HALF, 0).to(device)

    @classmethod
    def dinov2(cls, source: str, weights: Path | None, device: str, dtype: torch.dtype) -> VisualTokens:
        """DINOv2; its first token is of the class, not of a patch."""
        from transformers import Dinov2Model

        return cls(load_pretrained(Dinov2Model, "dinov2", source, weights, dtype=dtype), IMAGENET_MEAN, IMAGENET_STD, 1).to(device)


def require_torch(what: str, backend: str) -> None:
    """BackendError unless ``backend`` is PyTorch, the one that serves ``what``."""
    if backend != "torch":
        raise BackendError(f"the {what} of the paper-scale preset runs with backend 'torch' alone, not '{backend}'")


def images_to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 RGB to (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def latent_frame_of(frame: int) -> int:
    """The latent frame that holds a video frame: the VAE keeps frame 0 alone, then joins 4 into one."""
    return (frame + 3) // 4
