"""The UNet: latents of a scene from noise and the text encoder's reading of a caption.

The target is the velocity of Salimans and Ho (2022, "Progressive distillation"), on a noise schedule rescaled so that
its last step is noise alone (Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed").
"""

import random
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import CLIPTextModel, CLIPTokenizer

from training import text
from training.dataset import Pool
from training.foreign import DDPMScheduler, UNet2DConditionModel
from training.optimise import Plan, channels_last, minimise
from training.scene import Scene
from training.settings import LATENT_CHANNELS, LATENT_SIZE

BATCH = 32
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}


class Denoiser(nn.Module):
    """A UNet with the finished text encoder it listens to."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder.requires_grad_(False)
        self.unet = _unet()

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        """Velocities `[B, 4, 16, 16]` of noisy latents at `times` `[B]`, told the captions' tokens `[B, 24]`."""
        states = self.text_encoder(tokens).last_hidden_state
        return cast(Tensor, self.unet(noisy, times, states).sample)


def train(model: Denoiser, tokenizer: CLIPTokenizer, pool: Pool, scenes: list[Scene], plan: Plan) -> None:
    """Teaches the model `scenes`, `BATCH` a step."""
    rng = random.Random(plan.seed)
    schedule = DDPMScheduler(**SCHEDULE)

    def loss() -> Tensor:
        chosen = rng.choices(scenes, k=BATCH)
        clean = pool.latents(chosen, rng)
        tokens = text.tokenise(tokenizer, [text.tell(scene, rng) for scene in chosen])
        times = _times(len(chosen), schedule.config.num_train_timesteps)
        noise = torch.randn_like(clean)
        noisy = schedule.add_noise(clean, noise, times)
        wanted: Tensor = schedule.get_velocity(clean, noise, times)
        return mse_loss(model(noisy, times, tokens), wanted)

    channels_last(model.unet)
    minimise(model, loss, plan)


def _times(count: int, total: int) -> Tensor:
    """Random timesteps, later (noisier) ones likelier: they decide the picture; the decoder forgives a little noise."""
    return (torch.rand(count).sqrt() * total).long().clamp(max=total - 1)


def _unet() -> nn.Module:
    unet: nn.Module = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=text.WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
        # The whole caption also steers every residual block, through the time embedding: a plain pipeline can still run
        # the model, and it learns several times faster than by cross-attention alone.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )
    return unet
