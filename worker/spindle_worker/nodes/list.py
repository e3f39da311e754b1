"""list.*: light nodes that choose from, order and join lists, of pictures as of anything else.

What they give keeps its type: an item of a list of pictures is a picture. Indices count from 0; where an index may be
negative, -1 is the last. Lists that are taken or made have at most 10,000 items.
"""

import builtins
import itertools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, StrictBool, StrictFloat, StrictInt, WithJsonSchema
from pydantic_core import PydanticCustomError

from spindle_common.problems import BadInput
from spindle_worker.node import Context, Field, Inputs, Outputs, TypeOf, node
from spindle_worker.nodes.same import sameness

MAX_ITEMS = 10_000
_MAX_LISTS = 1000
_LARGEST = sys.float_info.max
_MAX_NAMES = 64


def _finite(value: float) -> float:
    if not abs(value) <= _LARGEST:
        raise PydanticCustomError("finite", "it must be a finite number")
    return value


Number = Annotated[
    StrictInt | StrictFloat, AfterValidator(_finite), WithJsonSchema({"type": "number"}, mode="validation")
]
Items = Annotated[builtins.list[Any], Field(max_length=MAX_ITEMS)]
Indices = Annotated[builtins.list[StrictInt], Field(max_length=MAX_ITEMS)]
Named = Annotated[dict[str, Items], Field(min_length=1, max_length=_MAX_NAMES)]
SameItems = builtins.list[Annotated[Any, TypeOf("items/*")]]
Row = Annotated[dict[str, Any], TypeOf("lists/{}/*")]


class ItemsInputs(Inputs):
    """A list."""

    items: Items = Field(description="The list.")


class ItemsOutputs(Outputs):
    """A list of the same kind of items."""

    items: SameItems = Field(description="The list that came out.")


class PickedOutputs(ItemsOutputs):
    """Some of the items, and where they stood."""

    indices: builtins.list[int] = Field(description="Where each stood in the list.")


# Made ----------------------------------------------------------------------------------------------------------------


class RangeInputs(Inputs):
    """Where to begin, and where to end or how many."""

    start: Number = Field(0, description="The first number.")
    stop: Number | None = Field(None, description="Where it ends; not among the numbers itself.")
    step: Number = Field(1, description="From one to the next; below 0 it goes down.")
    count: StrictInt | None = Field(None, ge=0, le=MAX_ITEMS, description="How many numbers, instead of `stop`.")


class RangeOutputs(Outputs):
    """Numbers."""

    items: builtins.list[Number] = Field(description="The numbers; whole ones if start and step are whole.")


@node("list.range@1", title="A list of numbers")
async def range_(inputs: RangeInputs, ctx: Context) -> RangeOutputs:
    """Counts from start up to stop, which is left out, or gives so many numbers; each is start + index · step."""
    if (inputs.stop is None) == (inputs.count is None):
        raise BadInput("Give either stop, or count")
    if inputs.step == 0 and inputs.count is None:
        raise BadInput("With a step of 0 it would never end: give another step, or count")
    numbers = [inputs.start + at * inputs.step for at in range(_how_many(inputs))]
    if not all(map(math.isfinite, numbers)):
        raise BadInput("The numbers become too large")
    return RangeOutputs(items=numbers)


def _how_many(inputs: RangeInputs) -> int:
    if inputs.count is not None:
        return inputs.count
    stop = inputs.stop or 0
    if all(isinstance(each, int) for each in (inputs.start, stop, inputs.step)):
        count: float = -((inputs.start - stop) // inputs.step)
    else:
        count = (stop - inputs.start) / inputs.step
    if count > MAX_ITEMS:
        raise BadInput(f"There would be more than {MAX_ITEMS:,} numbers: make step larger, or give count")
    return math.ceil(count) if count > 0 else 0


class RepeatInputs(Inputs):
    """A value, and how often."""

    value: Any = Field(description="The value.")
    count: StrictInt = Field(ge=0, le=MAX_ITEMS, description="How often it stands in the list.")


class RepeatOutputs(Outputs):
    """A list of one value."""

    items: builtins.list[Annotated[Any, TypeOf("value")]] = Field(description="The value, so many times.")


@node("list.repeat@1", title="Repeat a value")
async def repeat(inputs: RepeatInputs, ctx: Context) -> RepeatOutputs:
    """Makes a list in which one value stands so many times."""
    return RepeatOutputs(items=[inputs.value] * inputs.count)


class NamedInputs(Inputs):
    """Lists by name."""

    lists: Named = Field(description="Lists by name, 64 at most.")


class RowsOutputs(Outputs):
    """Objects."""

    items: builtins.list[Row] = Field(description="Objects with the names of the lists, each holding one item.")


@node("list.zip@1", title="Join lists item by item")
async def zip_(inputs: NamedInputs, ctx: Context) -> RowsOutputs:
    """Makes one list of objects out of lists that are equally long: the first items together, the second, and so on."""
    lengths = {name: len(items) for name, items in inputs.lists.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"`{name}` has {length}" for name, length in itertools.islice(lengths.items(), 8))
        raise BadInput(f"The lists must be equally long: {said}")
    return RowsOutputs(items=_rows(inputs.lists, zip(*inputs.lists.values(), strict=True)))


@node("list.product@1", title="All combinations")
async def product(inputs: NamedInputs, ctx: Context) -> RowsOutputs:
    """Combines each item of each list with each of the others, as objects; the last list changes quickest."""
    count = math.prod(len(items) for items in inputs.lists.values())
    if count > MAX_ITEMS:
        raise BadInput(f"There would be {count:,} combinations; at most {MAX_ITEMS:,} are made")
    return RowsOutputs(items=_rows(inputs.lists, itertools.product(*inputs.lists.values())))


def _rows(lists: Mapping[str, Any], rows: Iterable[tuple[Any, ...]]) -> builtins.list[dict[str, Any]]:
    return [dict(zip(lists, row, strict=True)) for row in rows]


# Chosen --------------------------------------------------------------------------------------------------------------

Scores = Annotated[builtins.list[Number | None], Field(max_length=MAX_ITEMS)]


class BestInputs(ItemsInputs):
    """A list and a number for each of its items."""

    by: Scores = Field(description="A number for each item; an item with null is passed over.")
    order: Literal["highest", "lowest"] = Field("highest", description="Which number is best.")


class BestOutputs(Outputs):
    """One item."""

    item: Annotated[Any, TypeOf("items/*")] = Field(description="The item.")
    index: int = Field(description="Where it stood in the list.")
    score: Number = Field(description="Its number.")


@node("list.best@1", title="The best item")
async def best(inputs: BestInputs, ctx: Context) -> BestOutputs:
    """Gives the item with the highest, or lowest, number; of several the first."""
    ranked = _ranked(inputs)
    if not ranked:
        raise BadInput("There is nothing to choose from: `by` holds no number")
    index, score = ranked[0]
    return BestOutputs(item=inputs.items[index], index=index, score=score)


class TopInputs(BestInputs):
    """A list, a number for each of its items, and how many are wanted."""

    count: StrictInt = Field(ge=1, le=MAX_ITEMS, description="How many, or fewer if there are not so many.")


class TopOutputs(PickedOutputs):
    """The best items."""

    scores: builtins.list[Number] = Field(description="Their numbers.")


@node("list.top@1", title="The best few items")
async def top(inputs: TopInputs, ctx: Context) -> TopOutputs:
    """Gives the items with the highest, or lowest, numbers, the best first; of equal ones the earlier first."""
    ranked = _ranked(inputs)[: inputs.count]
    indices = [index for index, _ in ranked]
    return TopOutputs(items=_at(inputs, indices), indices=indices, scores=[score for _, score in ranked])


def _ranked(inputs: BestInputs) -> builtins.list[tuple[int, float]]:
    """Return index and number of the items that have one, the best first."""
    _check_lengths(inputs.items, by=inputs.by)
    scored = [(index, score) for index, score in enumerate(inputs.by) if score is not None]
    return sorted(scored, key=lambda one: one[1], reverse=inputs.order == "highest")


def _check_lengths(items: Sequence[Any], **others: Sequence[Any]) -> None:
    for name, other in others.items():
        if len(other) != len(items):
            raise BadInput(f"`items` has {len(items)}, `{name}` has {len(other)}: there must be one for each item")


def _at(inputs: ItemsInputs, indices: Iterable[int]) -> builtins.list[Any]:
    return [inputs.items[index] for index in indices]


def _kept(inputs: ItemsInputs, indices: builtins.list[int]) -> PickedOutputs:
    return PickedOutputs(items=_at(inputs, indices), indices=indices)


class SortInputs(ItemsInputs):
    """A list, and perhaps what to order it by."""

    by: Items | None = Field(None, description="A number or a text for each item; unset: the items themselves.")
    order: Literal["ascending", "descending"] = Field("ascending", description="Which comes first.")


@node("list.sort@1", title="Order a list")
async def sort(inputs: SortInputs, ctx: Context) -> PickedOutputs:
    """Orders a list by numbers, or by texts as Unicode orders them; equal ones stay as they stood, null comes last."""
    keys = inputs.items if inputs.by is None else inputs.by
    _check_lengths(inputs.items, by=keys)
    kinds = {_ordered_kind(key) for key in keys if key is not None}
    if len(kinds) > 1 or None in kinds:
        name = "items" if inputs.by is None else "by"
        raise BadInput(f"`{name}` must hold numbers only, or texts only" + (": give `by`" if name == "items" else ""))
    present = [index for index, key in enumerate(keys) if key is not None]
    present.sort(key=lambda index: keys[index], reverse=inputs.order == "descending")
    return _kept(inputs, present + [index for index, key in enumerate(keys) if key is None])


def _ordered_kind(key: object) -> str | None:
    if isinstance(key, str):
        return "text"
    return "number" if isinstance(key, int | float) and not isinstance(key, bool) else None


class FilterInputs(ItemsInputs):
    """A list, and which of its items to keep."""

    keep: Annotated[builtins.list[StrictBool], Field(max_length=MAX_ITEMS)] = Field(
        description="For each item whether to keep it."
    )


@node("list.filter@1", title="Keep some items")
async def filter_(inputs: FilterInputs, ctx: Context) -> PickedOutputs:
    """Keeps the items for which `keep` is true."""
    _check_lengths(inputs.items, keep=inputs.keep)
    return _kept(inputs, [index for index, kept in enumerate(inputs.keep) if kept])


@node("list.compact@1", title="Leave null out")
async def compact(inputs: ItemsInputs, ctx: Context) -> PickedOutputs:
    """Leaves out what is null, such as the results of a map's items that failed."""
    return _kept(inputs, [index for index, item in enumerate(inputs.items) if item is not None])


@node("list.unique@1", title="Leave repetitions out")
async def unique(inputs: ItemsInputs, ctx: Context) -> PickedOutputs:
    """Keeps the first of equal items; objects are equal if they hold the same, 1 equals 1.0, and true does not."""
    first: dict[str, int] = {}
    for index, item in enumerate(inputs.items):
        first.setdefault(sameness(item), index)
    return _kept(inputs, [*first.values()])


class PickInputs(ItemsInputs):
    """A list, and which of its items."""

    index: StrictInt | None = Field(None, description="Which item; -1 is the last.")
    indices: Indices | None = Field(None, min_length=1, description="Which items, in this order, instead of `index`.")


class PickOutputs(ItemsOutputs):
    """What was picked."""

    item: Annotated[Any, TypeOf("items/*")] = Field(description="The item; the first of several.")


@node("list.pick@1", title="Pick items")
async def pick(inputs: PickInputs, ctx: Context) -> PickOutputs:
    """Gives the item at an index, or those at several."""
    if (inputs.index is None) == (inputs.indices is None):
        raise BadInput("Give either index, or indices")
    length = len(inputs.items)
    indices = [inputs.index] if inputs.index is not None else inputs.indices or []
    for index in indices:
        if not -length <= index < length:
            there = f"the last is {length - 1}" if length else "it is empty"
            raise BadInput(f"`items` has {length}, so there is no item {index}: {there}")
    picked = _at(inputs, indices)
    return PickOutputs(items=picked, item=picked[0])


class SliceInputs(ItemsInputs):
    """A list, and a part of it."""

    start: StrictInt | None = Field(None, description="Where it begins; unset: at the first item.")
    stop: StrictInt | None = Field(None, description="Where it ends, itself left out; unset: after the last.")
    step: StrictInt = Field(1, description="Every so many items; -1 turns the list round.")


@node("list.slice@1", title="A part of a list")
async def slice_(inputs: SliceInputs, ctx: Context) -> ItemsOutputs:
    """Gives a part of a list, as Python's `items[start:stop:step]` does; what lies outside is no mistake."""
    if inputs.step == 0:
        raise BadInput("A step of 0 leads nowhere")
    return ItemsOutputs(items=inputs.items[inputs.start : inputs.stop : inputs.step])


# Joined and split ----------------------------------------------------------------------------------------------------


class ConcatInputs(Inputs):
    """Lists."""

    lists: Annotated[builtins.list[Items], Field(max_length=_MAX_LISTS)] = Field(description="The lists.")


class ConcatOutputs(Outputs):
    """One list."""

    items: builtins.list[Annotated[Any, TypeOf("lists/*/*")]] = Field(
        description="Their items, one list's by another's."
    )


@node("list.concat@1", title="Join lists end to end")
async def concat(inputs: ConcatInputs, ctx: Context) -> ConcatOutputs:
    """Puts lists one behind the other."""
    return ConcatOutputs(items=_bounded(item for items in inputs.lists for item in items))


class AppendInputs(ItemsInputs):
    """A list and one more item."""

    value: Annotated[Any, TypeOf("items/*")] = Field(description="The item that comes last.")


class AppendOutputs(Outputs):
    """A longer list."""

    items: builtins.list[Annotated[Any, TypeOf("items/*")] | Annotated[Any, TypeOf("value")]] = Field(
        description="The list with the item."
    )


@node("list.append@1", title="Add an item")
async def append(inputs: AppendInputs, ctx: Context) -> AppendOutputs:
    """Adds an item at the end of a list; so a loop gathers what it makes."""
    return AppendOutputs(items=_bounded([*inputs.items, inputs.value]))


class FlattenInputs(ItemsInputs):
    """A list of lists."""

    depth: StrictInt = Field(1, ge=1, le=16, description="How many levels of lists to open.")


class FlattenOutputs(Outputs):
    """One list."""

    items: builtins.list[Any] = Field(description="What the lists held.")


@node("list.flatten@1", title="Open lists within a list")
async def flatten(inputs: FlattenInputs, ctx: Context) -> FlattenOutputs:
    """Replaces lists in a list by their items; other items stay. Of exactly one level, list.concat knows the types."""
    return FlattenOutputs(items=_bounded(_opened(inputs.items, inputs.depth)))


def _opened(items: Iterable[Any], depth: int) -> Iterable[Any]:
    for item in items:
        if isinstance(item, builtins.list) and depth:
            yield from _opened(item, depth - 1)
        else:
            yield item


def _bounded(items: Iterable[Any]) -> builtins.list[Any]:
    made = builtins.list(itertools.islice(items, MAX_ITEMS + 1))
    if len(made) > MAX_ITEMS:
        raise BadInput(f"The list would have more than {MAX_ITEMS:,} items")
    return made


class ChunkInputs(ItemsInputs):
    """A list, and how many items belong together."""

    size: StrictInt = Field(ge=1, le=MAX_ITEMS, description="Items in each part; the last may have fewer.")


class ChunkOutputs(Outputs):
    """Lists."""

    chunks: builtins.list[SameItems] = Field(description="The parts, in order.")


@node("list.chunk@1", title="Split a list into parts")
async def chunk(inputs: ChunkInputs, ctx: Context) -> ChunkOutputs:
    """Splits a list into parts of so many items, such as pages of pictures for image.grid."""
    starts = range(0, len(inputs.items), inputs.size)
    return ChunkOutputs(chunks=[inputs.items[start : start + inputs.size] for start in starts])


class LengthOutputs(Outputs):
    """A number."""

    length: int = Field(description="How many items the list has.")


@node("list.length@1", title="The length of a list")
async def length(inputs: ItemsInputs, ctx: Context) -> LengthOutputs:
    """Counts a list's items."""
    return LengthOutputs(length=len(inputs.items))
