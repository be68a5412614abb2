"""Video autoencoder: each 64x80 frame to 8x10 latent tokens and back.

Variational with a posterior of fixed variance: the code is batch-normalised, so its divergence from the prior is constant, and noise of
``LATENT_NOISE`` standard deviations while training makes distance in the code follow what can be seen. Nothing in it looks across the
whole picture: where the picture stands still, so does the code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harmowam_core.presets import AutoencoderConfig

LATENT_NOISE = 0.1


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        with torch.no_grad():  # near the identity at first, as there is no normalisation
            self.layers[-1].weight.mul_(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x + self.layers(x)


class Autoencoder(nn.Module):
    """Frames in [0, 1] to standardised latents and back."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        a, b, c = config.channels
        self.encoder = nn.Sequential(
            nn.Conv2d(3, a, 3, 2, 1),
            ResidualBlock(a),
            nn.Conv2d(a, b, 3, 2, 1),
            ResidualBlock(b),
            nn.Conv2d(b, c, 3, 2, 1),
            ResidualBlock(c),
            nn.SiLU(),
            nn.Conv2d(c, config.latent, 1),
            nn.BatchNorm2d(config.latent, affine=False),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent, c, 3, padding=1),
            ResidualBlock(c),
            ResidualBlock(c),
            nn.Conv2d(c, 4 * b, 3, padding=1),
            nn.PixelShuffle(2),
            ResidualBlock(b),
            nn.Conv2d(b, 4 * a, 3, padding=1),
            nn.PixelShuffle(2),
            ResidualBlock(a),
            nn.Conv2d(a, 4 * 3, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H, W) to standardised latents (B, C, H/8, W/8)."""
        return self.encoder(frames * 2 - 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (B, C, h, w) to frames (B, 3, H, W) in [0, 1]."""
        return self.reconstruct(latents).clamp(0, 1)

    def reconstruct(self, latents: Tensor) -> Tensor:
        """As ``decode``, not clamped."""
        return (self.decoder(latents) + 1) / 2


def autoencoder_loss(model: Autoencoder, frames: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted L1 + squared error of frames decoded from noisy latents; returns (loss, plain mean squared error).

    frames: (B, 3, H, W) in [0, 1]; weight: (B, 1, H, W), larger where the picture moves.
    """
    latents = model.encode(frames)
    error = model.reconstruct(latents + LATENT_NOISE * torch.randn_like(latents)) - frames
    loss = (weight * (error.abs() + 10 * error**2)).sum() / (3 * weight.sum())
    return loss, (error**2).mean()
