"""A CLIP tokenizer whose vocabulary is bytes plus the words of the caption grammar, each of them a single token.

Words it does not know fall apart into bytes, as with any CLIP tokenizer; letters are lower-cased by the tokenizer
itself.
"""

from collections import Counter
from itertools import pairwise
from typing import cast

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from training.captions import WORDS
from training.settings import TEXT_LENGTH

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"

Pair = tuple[str, str]


def create() -> CLIPTokenizer:
    """The tokenizer; the same on every call."""
    letters = sorted(ByteLevel.alphabet())
    merges = learn_merges(sorted(set(WORDS)))
    pieces = [*letters, *(letter + _WORD_END for letter in letters), *map("".join, merges), BEGIN, END]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return CLIPTokenizer(vocab=vocabulary, merges=cast(list[str], merges), model_max_length=TEXT_LENGTH)


def learn_merges(words: list[str]) -> list[Pair]:
    """Byte-pair merges, in order, that make each of `words` one piece: the commonest pair first, ties by spelling."""
    spelled = [[*word[:-1], word[-1] + _WORD_END] for word in words]
    merges: list[Pair] = []
    while counts := Counter(pair for pieces in spelled for pair in pairwise(pieces)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelled = [_merge(pieces, best) for pieces in spelled]
    return merges


def _merge(pieces: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
