"""The text encoder and the UNet, learned together: latents of a scene from noise and a caption of it.

The target is the velocity of Salimans and Ho (2022, "Progressive distillation"), on a noise schedule rescaled so that
its last step is noise alone (Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed").
"""

import random
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training import captions
from training.dataset import Pool
from training.foreign import DDPMScheduler, UNet2DConditionModel
from training.optimise import Plan, channels_last, minimise
from training.scene import Scene
from training.settings import LATENT_CHANNELS, LATENT_SIZE, TEXT_LENGTH

BATCH = 32
TEXT_WIDTH = 64
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}
UNTOLD = {"size": 0.25, "place": 0.25, "background": 0.03}
"""How often a caption leaves an attribute out."""
NO_CAPTION = 0.1
"""How often the caption is empty, so that the model can be guided away from the unconditioned picture."""


class Denoiser(nn.Module):
    """Text encoder and UNet under one roof, as one optimiser sees them."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = _text_encoder(tokenizer)
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
        tokens = tokenise(tokenizer, [_told(scene, rng) for scene in chosen])
        times = torch.randint(0, schedule.config.num_train_timesteps, (len(chosen),))
        noise = torch.randn_like(clean)
        noisy = schedule.add_noise(clean, noise, times)
        wanted: Tensor = schedule.get_velocity(clean, noise, times)
        return mse_loss(model(noisy, times, tokens), wanted)

    channels_last(model.unet)
    minimise(model, loss, plan)


def tokenise(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token numbers `[B, 24]`, cut and padded as `StableDiffusionPipeline` does."""
    found = tokenizer(texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt")
    return cast(Tensor, found.input_ids)


def _told(scene: Scene, rng: random.Random) -> str:
    told = [attribute for attribute, share in UNTOLD.items() if rng.random() >= share]
    return "" if rng.random() < NO_CAPTION else captions.caption(scene, rng, told)


def _text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _unet() -> nn.Module:
    unet: nn.Module = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
        # The whole caption also steers every residual block, through the time embedding: a plain pipeline can still run
        # the model, and it learns several times faster than by cross-attention alone.
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )
    return unet
