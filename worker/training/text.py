"""The text encoder, taught first and alone to tell a caption's attributes.

Each state from the caption's end mark on has to give all five attributes by one linear map, with a class of its own for
what the caption leaves out. The denoiser then finds them ready and need not learn to read.
"""

import random
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training import captions
from training.optimise import Plan, minimise
from training.scene import COLOURS, PLACES, SHAPES, SIZES, Scene
from training.settings import TEXT_LENGTH

WIDTH = 64
UNTOLD = {"size": 0.2, "place": 0.2, "background": 0.03}
"""How often a caption leaves an attribute out."""
NO_CAPTION = 0.1
"""How often the caption is empty, so that the denoiser can be guided away from the picture of no caption."""

_CLASSES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "background": tuple(COLOURS),
    "size": SIZES,
    "place": PLACES,
}


class Reader(nn.Module):
    """The text encoder with the linear maps that judge it; these are thrown away."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.encoder = create(tokenizer)
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, len(names) + 1) for name, names in _CLASSES.items()})

    def loss(self, texts: list[str], tokens: Tensor) -> Tensor:
        """How badly the states tell the attributes of captions, given also as tokens `[B, 24]`: cross entropy."""
        states = self.encoder(tokens).last_hidden_state
        ended = tokens == tokens[0, -1]
        told = [captions.read(text) if text else {} for text in texts]
        losses = []
        for name, names in _CLASSES.items():
            wanted = torch.tensor([names.index(row[name]) if name in row else len(names) for row in told])
            losses.append(cross_entropy(self.heads[name](states[ended]), wanted[:, None].expand_as(tokens)[ended]))
        return torch.stack(losses).sum()


def create(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder for the tokenizer's words."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def train(reader: Reader, tokenizer: CLIPTokenizer, scenes: list[Scene], plan: Plan) -> None:
    """Teaches the reader captions of `scenes`, 96 a step."""
    rng = random.Random(plan.seed)

    def loss() -> Tensor:
        texts = [tell(scene, rng) for scene in rng.choices(scenes, k=96)]
        return reader.loss(texts, tokenise(tokenizer, texts))

    minimise(reader, loss, plan)


def tell(scene: Scene, rng: random.Random) -> str:
    """A caption that leaves out now this, now that, and now and then everything."""
    told = [attribute for attribute, share in UNTOLD.items() if rng.random() >= share]
    return "" if rng.random() < NO_CAPTION else captions.caption(scene, rng, told)


def tokenise(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token numbers `[B, 24]`, cut and padded as `StableDiffusionPipeline` does."""
    found = tokenizer(texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt")
    return cast(Tensor, found.input_ids)
