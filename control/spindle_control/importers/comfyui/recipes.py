"""Models in the workflow: an input for each, and where adapters lie over one, a `model.load` that says so.

While nodes are written, each use of a model gets a stand-in, an empty object of its own. At the end, when every chain
of adapters is known, those over a model and those over its text encoder are joined where they name the same adapters:
one recipe then serves both, and the model is loaded once.
"""

from dataclasses import dataclass, field
from typing import Any

from spindle_control.importers.builder import Builder, Path, ref

Json = dict[str, Any]
Chain = tuple[tuple[str, float], ...]
PATTERN = "^[a-z0-9][a-z0-9._-]{0,63}$"


@dataclass(frozen=True)
class Use:
    """One way in which a model is used: to denoise (`unet`), for prompts (`text`) or pictures (`vae`)."""

    kind: str
    base: str
    adapters: Chain = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters, without their weights."""
        return tuple(name for name, _ in self.adapters)


@dataclass
class Recipes:
    """Stand-ins by use, and from where each model comes."""

    stand_ins: dict[Use, Json] = field(default_factory=dict)
    origins: dict[str, tuple[Path, str]] = field(default_factory=dict)

    def known(self, base: str, origin: Path, file: str) -> None:
        """Note from where a model comes, the first time."""
        self.origins.setdefault(base, (origin, file))

    def use(self, kind: str, base: str, adapters: Chain = ()) -> Json:
        """Return the stand-in for a use of a model."""
        return self.stand_ins.setdefault(Use(kind, base, adapters), {})

    def settle(self, builder: Builder) -> None:
        """Put inputs and `model.load` nodes in the stand-ins' places."""
        loads: dict[tuple[str, Chain, Chain], Json] = {}
        first: list[str] = []
        for use, stand_in in self.stand_ins.items():
            origin, file = self.origins.get(use.base, ((), use.base))
            given = builder.input("model", _spec(use.base, file), origin, shared=use.base)
            chains = self._chains(use)
            if any(chains):
                key = (use.base, *chains)
                if key not in loads:
                    adapters = _adapters(*chains)
                    id_ = builder.node("model", "model.load@1", {"model": given, "adapters": adapters}, origin)
                    first.append(id_)
                    loads[key] = ref(id_, "model")
                given = loads[key]
            builder.replace(stand_in, given)
        builder.first(first)

    def _chains(self, use: Use) -> tuple[Chain, Chain]:
        """The adapters over the model and over its text encoder, in the recipe that serves this use."""
        if use.kind == "vae":
            main = next((u for u in self.stand_ins if u.kind == "unet" and u.base == use.base), None)
            return self._chains(main) if main else ((), ())
        other_kind = {"unet": "text", "text": "unet"}[use.kind]
        others = [u for u in self.stand_ins if u.kind == other_kind and u.base == use.base]
        twins = [u for u in others if set(u.names) == set(use.names)]
        if len(others) == 1 and len([u for u in self.stand_ins if (u.kind, u.base) == (use.kind, use.base)]) == 1:
            twins = others
        partner: Chain = twins[0].adapters if len(twins) == 1 else ()
        return (use.adapters, partner) if use.kind == "unet" else (partner, use.adapters)


def _spec(base: str, file: str) -> Json:
    about = f"The model; ComfyUI's file is called {file[:200]}." if file else "The model."
    return {"type": "string", "pattern": PATTERN, "default": base, "description": about}


def _adapters(unet: Chain, text: Chain) -> list[Json]:
    """One list for both: an adapter that lies over one of them only has weight 0 over the other."""
    weights: dict[str, list[float]] = {}
    for at, chain in enumerate((unet, text)):
        for name, weight in chain:
            weights.setdefault(name, [0.0, 0.0])[at] += weight
    return [{"adapter": name, "weight": unet, "text_weight": text} for name, (unet, text) in weights.items()]
