"""A ComfyUI graph, as its API takes it: text to picture, then larger latents sampled further."""

from typing import Any

Json = dict[str, Any]


def graph(*, batch_size: int = 1, **changes: Any) -> Json:
    """Nine nodes; some exchanged for others, by their ids."""
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    how = {"seed": 3, "steps": 4, "cfg": 3, "sampler_name": "euler", "scheduler": "sgm_uniform", "denoise": 1}
    bodies: dict[str, tuple[str, Json]] = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": "tiny.safetensors"}),
        "2": ("CLIPTextEncode", {"text": "a large (red:1.2) circle on a blue background", "clip": ["1", 1]}),
        "3": ("CLIPTextEncode", {"text": "", "clip": ["1", 1]}),
        "4": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": batch_size}),
        "5": ("KSampler", how | links),
        "6": ("LatentUpscaleBy", {"samples": ["5", 0], "upscale_method": "bicubic", "scale_by": 1.5}),
        "7": ("KSampler", how | links | {"latent_image": ["6", 0], "denoise": 0.5, "seed": 4}),
        "8": ("VAEDecode", {"samples": ["7", 0], "vae": ["1", 2]}),
        "9": ("SaveImage", {"images": ["8", 0], "filename_prefix": "round"}),
    }
    return {id_: {"class_type": name, "inputs": inputs} for id_, (name, inputs) in bodies.items()} | changes
