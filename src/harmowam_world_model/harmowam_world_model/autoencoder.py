"""Video autoencoder: each 64x80 frame to 8x10 latent tokens and back (variational, weakly regularised)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harmowam_core.presets import AutoencoderConfig


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x + self.layers(x)


class Autoencoder(nn.Module):
    """Frames in [0, 1] to standardised latents; ``latent_mean`` and ``latent_std`` are set after training."""

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
            nn.Conv2d(c, 2 * config.latent, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent, c, 1),
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
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("latent_mean", torch.zeros(config.latent, 1, 1))
        self.register_buffer("latent_std", torch.ones(config.latent, 1, 1))

    def posterior(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, 3, H, W) to the raw posterior's mean and log variance, each (B, C, H/8, W/8)."""
        mean, log_variance = self.encoder(frames * 2 - 1).chunk(2, 1)
        return mean, log_variance.clamp(-12, 4)

    def decode_raw(self, raw: Tensor) -> Tensor:
        """Raw latents (B, C, h, w) to frames (B, 3, H, W), about [0, 1], not clamped."""
        return (self.decoder(raw) + 1) / 2

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H, W) to standardised latents (B, C, H/8, W/8)."""
        return (self.posterior(frames)[0] - self.latent_mean) / self.latent_std

    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (B, C, h, w) to frames (B, 3, H, W) in [0, 1]."""
        return self.decode_raw(latents * self.latent_std + self.latent_mean).clamp(0, 1)


def autoencoder_loss(model: Autoencoder, frames: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted L1 + squared error with a faint KL term; returns (loss, plain mean squared error).

    frames: (B, 3, H, W) in [0, 1]; weight: (B, 1, H, W), larger where the picture moves.
    """
    mean, log_variance = model.posterior(frames)
    raw = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
    error = model.decode_raw(raw) - frames
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    loss = (weight * (error.abs() + 10 * error**2)).sum() / (3 * weight.sum()) + 1e-4 * kl
    return loss, (error**2).mean()
