"""The diffusers classes in use, as untyped: diffusers has annotations, but not such as strict checking can follow."""

from typing import Any

import diffusers

AutoencoderTiny: Any = diffusers.AutoencoderTiny
DDIMScheduler: Any = diffusers.DDIMScheduler
DDPMScheduler: Any = diffusers.DDPMScheduler
StableDiffusionPipeline: Any = diffusers.StableDiffusionPipeline
UNet2DConditionModel: Any = diffusers.UNet2DConditionModel
