"""Prompts with weights and of any length: how they are split, and what the text encoders make of them."""

from typing import Any

import pytest

from support.diffusion import random_cache

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from spindle_common.problems import BadInput  # noqa: E402
from spindle_worker.diffusion.codec import encode_text  # noqa: E402
from spindle_worker.diffusion.words import Wording, weighed  # noqa: E402
from spindle_worker.models import ModelCache  # noqa: E402

WEIGHTED = Wording(weighted=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    return random_cache(tmp_path_factory.mktemp("models"), "sd", "sdxl")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("a cat", [("a cat", 1.0)]),
        ("a (cat:1.2) here", [("a ", 1.0), ("cat", 1.2), (" here", 1.0)]),
        ("(cat)", [("cat", 1.1)]),
        ("((cat))", [("cat", pytest.approx(1.21))]),
        ("((big:0.5) cat:1.4)", [("big", 0.5), (" cat", 1.4)]),
        ("(a:.5)", [("a", 0.5)]),
        (r"a \(cat\)", [("a (cat)", 1.0)]),
        ("a ) b ( c", [("a ) b ( c", 1.0)]),
        ("(a ( b", [("(a ( b", 1.0)]),
        ("(ratio 3:2 here)", [("ratio 3:2 here", 1.1)]),
        ("(time: 7)", [("time", 7.0)]),
    ],
)
def test_splits(text: str, pieces: list[tuple[str, float]]) -> None:
    assert weighed(text) == pieces


@given(st.text(alphabet="ab ():.1\\", max_size=60))
def test_loses_no_words(text: str) -> None:
    kept = "".join(piece for piece, _ in weighed(text))
    assert [letter for letter in kept if letter in "ab"] == [letter for letter in text if letter in "ab"]


def test_deep_nesting_is_quick() -> None:
    assert weighed("(" * 10_000 + "a" + ")" * 10_000)[0][0] == "a"


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_without_weights_it_is_what_diffusers_makes(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        plain, ours = encode_text(model, "red box", "dull"), encode_text(model, "red box", "dull", how=WEIGHTED)
        for name in ("positive", "negative", "pooled", "negative_pooled"):
            one, other = getattr(plain, name), getattr(ours, name)
            assert (one is None) == (other is None)
            assert one is None or float((one - other).abs().max()) < 1e-5


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_layers_differ(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        last, before = (encode_text(model, "red", how=Wording(layer=layer)).positive for layer in (-1, -2))
        usual = encode_text(model, "red").positive
        assert last is not None
        assert before is not None
        assert usual is not None
        assert not torch.allclose(last, before, atol=1e-3)
        assert torch.allclose(usual, before if kind == "sdxl" else last, atol=1e-5)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_weights_move_their_own_tokens_away_from_the_empty_prompt(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        plain, heavy, empty = (_tokens(model, text) for text in ("a b", "a (b:1.5)", ""))
        # begin, "a", "b", end, padding: only the third token weighs more
        assert torch.allclose(heavy[2], empty[2] + 1.5 * (plain[2] - empty[2]), atol=1e-5)
        others = [0, 1, *range(3, len(plain))]
        assert torch.allclose(heavy[others], plain[others], atol=1e-5)


def test_long_prompts_are_read_to_their_end(cache: ModelCache) -> None:
    with cache.use("sd") as model:
        room = model.pipe.tokenizer.model_max_length
        long = _tokens(model, "a b c d e f g h i j k l m n o p q")
        assert len(long) == 2 * room
        assert torch.allclose(long[:room], _tokens(model, "a b c d e f g h i j k l m n"), atol=1e-5)
        assert torch.allclose(long[room:], _tokens(model, "o p q"), atol=1e-5)
        with pytest.raises(BadInput, match="tokens; at most"):
            encode_text(model, "a" * 5000, how=WEIGHTED)


def _tokens(model: Any, text: str) -> Any:
    return encode_text(model, text, how=WEIGHTED).positive[0]  # type: ignore[index]
