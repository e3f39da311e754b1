"""Builds tiny pipelines with random weights, in every layout, as diffusers folders; nothing is downloaded.

Names: sd (AutoencoderKL), sd_tiny (AutoencoderTiny, v-prediction, zero terminal SNR), sdxl, lcm, flux, sd3.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers as typed_diffusers
import tokenizers
import torch
import transformers as typed_transformers

diffusers: Any = typed_diffusers  # neither library types its constructors
transformers: Any = typed_transformers
LENGTH = 16


def save(kind: str, folder: Path) -> Path:
    """Build the pipeline of that name and save it."""
    torch.manual_seed(sum(kind.encode()))
    BUILDERS[kind]().save_pretrained(folder)
    return folder


def _sd() -> Any:
    scheduler = diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    return _stable_diffusion(vae=_vae(), unet=_unet(), scheduler=scheduler)


def _sd_tiny() -> Any:
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )
    vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )
    vae.register_to_config(block_out_channels=(8, 8, 8))
    return _stable_diffusion(vae=vae, unet=_unet(), scheduler=scheduler)


def _lcm() -> Any:
    return _stable_diffusion(vae=_vae(), unet=_unet(time_cond_proj_dim=16), scheduler=_euler())


def _stable_diffusion(**parts: Any) -> Any:
    return diffusers.StableDiffusionPipeline(
        text_encoder=_text(transformers.CLIPTextModel),
        tokenizer=_clip_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    )


def _sdxl() -> Any:
    time_ids = 6 * 8
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(),
        unet=_unet(
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=time_ids + 32,
        ),
        scheduler=_euler(),
        text_encoder=_text(transformers.CLIPTextModel),
        text_encoder_2=_text(transformers.CLIPTextModelWithProjection),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        add_watermarker=False,
    )


def _flux() -> Any:
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(latent_channels=4, shift_factor=0.1),
        text_encoder=_text(transformers.CLIPTextModel),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_t5(),
        tokenizer_2=_t5_tokenizer(),
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def _sd3() -> Any:
    return diffusers.StableDiffusion3Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(latent_channels=4, shift_factor=0.1),
        text_encoder=_text(transformers.CLIPTextModelWithProjection),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_text(transformers.CLIPTextModelWithProjection),
        tokenizer_2=_clip_tokenizer(),
        text_encoder_3=_t5(),
        tokenizer_3=_t5_tokenizer(),
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=64,
            out_channels=4,
        ),
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "sd": _sd,
    "sd_tiny": _sd_tiny,
    "lcm": _lcm,
    "sdxl": _sdxl,
    "flux": _flux,
    "sd3": _sd3,
}


def _euler() -> Any:
    return diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )


def _unet(**options: Any) -> Any:
    usual: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return diffusers.UNet2DConditionModel(**(usual | options))


def _vae(**options: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        **({"latent_channels": 4} | options),
    )


def _text(kind: Any) -> Any:
    return kind(
        transformers.CLIPTextConfig(
            vocab_size=len(_vocabulary()),
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=32,
            bos_token_id=len(_vocabulary()) - 2,
            eos_token_id=len(_vocabulary()) - 1,
            pad_token_id=len(_vocabulary()) - 1,
        )
    ).eval()


def _vocabulary() -> dict[str, int]:
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {piece: index for index, piece in enumerate(pieces)}


def _clip_tokenizer() -> Any:
    return transformers.CLIPTokenizer(vocab=_vocabulary(), merges=[], model_max_length=LENGTH)


def _t5() -> Any:
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4, pad_token_id=0)
    ).eval()


def _t5_tokenizer() -> Any:
    letters = ["<pad>", "</s>", "<unk>", *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())]
    core = tokenizers.Tokenizer(
        tokenizers.models.BPE({letter: index for index, letter in enumerate(letters)}, [], unk_token="<unk>")
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=LENGTH
    )
