"""Instructions to token embeddings through a frozen sentence encoder, so that paraphrases land near each other."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch
from torch import Tensor

from harmowam_core.presets import InstructionEncoderConfig


class InstructionEncoder:
    """Frozen transformer encoder whose weights ship inside a Python package; results are cached by sentence."""

    def __init__(self, config: InstructionEncoderConfig) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from transformers import AutoModel, AutoTokenizer  # slow to import, and only needed here
        from transformers.utils import logging

        logging.disable_progress_bar()  # 0.1 s of loading is no news
        folder = _model_folder(config.package)
        self._config = config
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, use_safetensors=True).eval().requires_grad_(False)
        self._cache: dict[str, Tensor] = {}

    def encode(self, sentences: list[str]) -> Tensor:
        """Sentences to (B, tokens + 1, dim) float32: first the mean, then the token embeddings, zero where there is none."""
        missing = [s for s in dict.fromkeys(sentences) if s not in self._cache]
        for sentence in missing:
            if not sentence.strip():
                raise ValueError("the instruction is empty; say what to do, e.g. 'put the yellow banana on the plate'")
        if missing:
            batch = self._tokenizer(missing, padding="max_length", truncation=True, max_length=self._config.tokens, return_tensors="pt")
            with torch.inference_mode():
                tokens = self._model(**batch).last_hidden_state * batch["attention_mask"][..., None]  # (B, L, D)
            mean = tokens.sum(1, keepdim=True) / batch["attention_mask"].sum(1)[:, None, None]
            for sentence, embedding in zip(missing, torch.cat([mean, tokens], 1).clone(), strict=True):
                self._cache[sentence] = embedding
        return torch.stack([self._cache[s] for s in sentences])


def _model_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the instruction encoder's package '{package}' is not installed; run `make setup`")
    for config in sorted(Path(spec.origin).parent.rglob("config.json")):
        if (config.parent / "model.safetensors").is_file():
            return config.parent
    raise FileNotFoundError(f"package '{package}' holds no model.safetensors beside a config.json")
