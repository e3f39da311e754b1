r"""Prompts whose words weigh differently, and that may be longer than the text encoder reads at once.

`(words:1.2)` weighs 1.2, `(words)` 1.1 times what is around it, `\(` and `\)` are parentheses; those that do not pair
are taken as they stand. Tokens go through the encoder in chunks of its length, whose outputs are joined; then each
token's output is moved away from what an empty prompt gives there, by its weight:

    out = empty + weight * (out - empty)

This is how ComfyUI reads prompts. With no weights and a short prompt it gives what diffusers' `encode_prompt` gives.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spindle_common.problems import BadInput
from spindle_worker.models.loading import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

Weighed = list[tuple[str, float]]
MAX_CHUNKS = 32
_MARK = re.compile(r"\\[()]|[()]")
_EXPLICIT = re.compile(r":\s*([0-9]{1,3}(?:\.[0-9]{0,6})?|\.[0-9]{1,6})\s*$")
_LONGEST_WEIGHT = 24
_USUAL = 1.1


@dataclass(frozen=True)
class Wording:
    """How a prompt is read: with weights or plainly, and by which layer of the text encoder, from its end."""

    weighted: bool = False
    layer: int | None = None


PLAIN = Wording()


def weighed(text: str) -> Weighed:
    """Split a prompt into pieces with their weights."""
    closing = _pairs(text)
    ends: dict[int, int] = {}
    pieces: Weighed = []
    weights, at = [1.0], 0
    for mark in _MARK.finditer(text):
        start = mark.start()
        if len(mark.group()) == 2:
            pieces += [(text[at:start], weights[-1]), (mark.group()[1], weights[-1])]
        elif start in closing:
            pieces.append((text[at:start], weights[-1]))
            weight, ends[closing[start]] = _explicit(text, start + 1, closing[start])
            weights.append(weights[-1] * _USUAL if weight is None else weight)
        elif start in ends:
            pieces.append((text[at : ends[start]], weights.pop()))
        else:
            continue
        at = mark.end()
    return _merged([*pieces, (text[at:], 1.0)])


def _pairs(text: str) -> dict[int, int]:
    """Where each parenthesis that pairs is closed."""
    found, opened = {}, []
    for mark in _MARK.finditer(text):
        if mark.group() == "(":
            opened.append(mark.start())
        elif mark.group() == ")" and opened:
            found[opened.pop()] = mark.start()
    return found


def _explicit(text: str, start: int, end: int) -> tuple[float | None, int]:
    """Read the weight at the end of a group; return it with where the group's words end."""
    begin = max(start, end - _LONGEST_WEIGHT)
    found = _EXPLICIT.search(text[begin:end])
    return (None, end) if found is None else (float(found.group(1)), begin + found.start())


def _merged(pieces: Weighed) -> Weighed:
    merged: Weighed = []
    for piece, weight in pieces:
        if piece and merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + piece, weight)
        elif piece:
            merged.append((piece, weight))
    return merged


def encode_words(model: LoadedModel, text: str, how: Wording) -> "tuple[Tensor, Tensor | None]":
    """Encode a prompt: (1, tokens, width), and pooled where the model wants that. Raises BadInput."""
    import torch

    pieces = weighed(text) if how.weighted else [(text, 1.0)]
    outputs, pooled = [], None
    with torch.inference_mode():
        for name in ("", "_2"):
            encoder = getattr(model.pipe, f"text_encoder{name}", None)
            if encoder is not None:
                tokenizer = getattr(model.pipe, f"tokenizer{name}")
                hidden, pooled = _encoded(_Encoder(model, encoder, tokenizer, how), pieces)
                outputs.append(hidden)
        length = max(output.shape[1] for output in outputs)
        outputs = [_lengthened(output, length) for output in outputs]
    return torch.cat(outputs, dim=-1), pooled if model.layout == "sdxl" else None


def _lengthened(output: "Tensor", length: int) -> "Tensor":
    """Two tokenizers may make different numbers of chunks; the shorter one is repeated."""
    times = -(-length // output.shape[1])
    return output.repeat(1, times, 1)[:, :length]


@dataclass(frozen=True)
class _Encoder:
    """A text encoder with its tokenizer."""

    model: LoadedModel
    module: Any
    tokenizer: Any
    how: Wording

    def run(self, rows: list[list[int]]) -> "tuple[Tensor, Tensor]":
        """Encode rows of token ids; return hidden states and pooled outputs."""
        import torch

        found = self.module(torch.tensor(rows, device=self.model.device), output_hidden_states=True)
        layer = self.how.layer
        if self.model.layout == "sdxl":
            return found.hidden_states[-2 if layer is None else layer], found[0]
        if layer is None:
            return found[0], found[0]
        inner = getattr(self.module, "text_model", self.module)  # transformers 5 lost the level between
        return inner.final_layer_norm(found.hidden_states[layer]), found[0]


def _encoded(encoder: _Encoder, pieces: Weighed) -> "tuple[Tensor, Tensor]":
    import torch

    rows, weights = _chunks(encoder.tokenizer, pieces, None if encoder.how.weighted else 1)
    hidden, pooled = encoder.run([*rows, _framed(encoder.tokenizer, [])])
    empty = hidden[-1:]
    scale = torch.tensor(weights, dtype=hidden.dtype, device=hidden.device)[..., None]
    moved = torch.where(scale == 1, hidden[:-1], empty + scale * (hidden[:-1] - empty))
    return moved.reshape(1, -1, hidden.shape[-1]), pooled[:1]


def _chunks(tokenizer: Any, pieces: Weighed, most: int | None) -> tuple[list[list[int]], list[list[float]]]:
    """Cut a prompt's tokens into rows of the encoder's length, with each token's weight; drop all behind `most`."""
    tokens = [
        (token, weight)
        for piece, weight in pieces
        for token in tokenizer(piece, add_special_tokens=False, truncation=False).input_ids
    ]
    room = tokenizer.model_max_length - 2
    if most is None and len(tokens) > MAX_CHUNKS * room:
        raise BadInput(f"The prompt has {len(tokens)} tokens; at most {MAX_CHUNKS * room} are read")
    cut = [tokens[at : at + room] for at in range(0, len(tokens), room)][:most] or [[]]
    rows = [_framed(tokenizer, [token for token, _ in chunk]) for chunk in cut]
    return rows, [[1.0, *(weight for _, weight in chunk), *[1.0] * (room + 1 - len(chunk))] for chunk in cut]


def _framed(tokenizer: Any, tokens: list[int]) -> list[int]:
    """Put begin, end and padding around a chunk."""
    filled = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
    return filled + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(filled))
