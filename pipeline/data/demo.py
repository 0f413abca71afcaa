"""The demo: a generated multimodal data set with a known answer, in NineRec's file layout.

Every item has a hidden state, a taste and a style. Users walk a Markov chain over states that all
domains share: a taste leads on to another, a style tends to stay. A title names the taste by an
invented word, and by another one its maker, `sunny pivo by zubu`: any taste's word may be a maker's
name, so the order decides, which a public text encoder's space holds badly and its top blocks can
learn. A cover tells the style by its colour and pattern, and by its shape a group of tastes. Who
knows the chain and every state can't do better than the oracle, whose hit rate is computed exactly.
"""

import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from pydantic import Field, NonNegativeInt

from pipeline.data import files, pictures
from pipeline.params import Section

TASTES = 12
STYLES = 4
STATES = TASTES * STYLES
LONGEST = 23  # items of a user: the protocol's window, so that the oracle knows whole histories
SHORTEST = 5  # the protocol drops users with fewer
CUTOFF = 10

# BERT's word pieces cut every ordered pair of these into exactly the two. One a taste.
SYLLABLES = ("bi", "bu", "fa", "fu", "ka", "ki", "ko", "pi", "va", "vo", "za", "zu")
STYLE_WORDS = (
    ("sunny", "warm", "golden"),
    ("frozen", "icy", "snowy"),
    ("wild", "green", "leafy"),
    ("royal", "velvet", "purple"),
)
ORDINARY_WORDS = (
    *("guitar", "kitchen", "engine", "doctor", "school", "football", "window", "coffee"),
    *("camera", "bridge", "garden", "winter", "market", "river", "paper", "soldier"),
    *("dragon", "wedding", "island", "computer", "hospital", "bread", "horse", "rocket"),
    *("castle", "dentist", "piano", "train", "money", "teacher", "lemon", "hammer"),
)


class Size(Section):
    """How large one domain is."""

    users: int = Field(ge=1)
    items: int = Field(ge=LONGEST + CUTOFF)  # who has had the most still has CUTOFF to choose from
    mean_length: float = Field(ge=SHORTEST, le=LONGEST)  # items a user


class DemoData(Section):
    """The seed of the demo, and the size of its source and its three targets."""

    seed: NonNegativeInt
    harbor: Size  # the source
    near: Size  # its invented words and its way of drawing, other items
    far: Size  # half of its invented words, another way of drawing
    cold: Size  # as near, with many items and few interactions an item


class Dialect(NamedTuple):
    """How a domain says what an item is."""

    words: slice  # which of a taste's invented words it uses
    drawing: str  # a key of pictures.DRAWINGS
    prefix: str  # of its item ids


DIALECTS = {
    "harbor": Dialect(slice(0, 4), "plain", ""),
    "near": Dialect(slice(0, 4), "plain", "v"),
    "far": Dialect(slice(2, 6), "outlined", "v"),
    "cold": Dialect(slice(0, 4), "plain", ""),
}
SOURCE = "harbor"
ORACLE = "oracle.json"  # in a generated domain's folder: what `oracle` gives
ANSWERS = ("hr@10", "hits@10", "random@10", "candidates")


class Catalogue(NamedTuple):
    """What the oracle knows of a domain's items."""

    states: np.ndarray  # [N] int64, taste * STYLES + style
    weights: np.ndarray  # [N] float64, how popular within the state


def chain() -> np.ndarray:
    """Give the users' chain [STATES, STATES] float64: row = where they are, column = where next."""
    tastes = np.full((TASTES, TASTES), 0.12 / TASTES)
    here = np.arange(TASTES)
    tastes[here, (here * 5 + 3) % TASTES] += 0.70  # 5 and 12 share no divisor: a permutation
    tastes[here, (here * 7 + 1) % TASTES] += 0.18
    styles = np.full((STYLES, STYLES), 0.2 / STYLES) + 0.8 * np.eye(STYLES)
    return np.kron(tastes, styles)


def next_item(catalogue: Catalogue, last: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Give each user's exact distribution over the next item: an unseen one, by state and weight.

    Args:
        catalogue: the items' states and weights.
        last: [U] int64, the item each user is at.
        seen: [U, N] bool, the items each user has had; they don't come again.

    Returns:
        [U, N] float64, rows sum to 1.
    """
    weights = np.where(seen, 0.0, catalogue.weights)  # [U, N]
    members = np.eye(STATES)[catalogue.states]  # [N, STATES]
    left = weights @ members  # [U, STATES], the weight of what a state still offers
    moves = np.where(left > 0, chain()[catalogue.states[last]], 0.0)
    moves /= moves.sum(axis=1, keepdims=True)
    share = np.divide(moves, left, out=np.zeros_like(moves), where=left > 0)
    chances: np.ndarray = weights * share[:, catalogue.states]
    return chances


def walk(
    catalogue: Catalogue, lengths: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Let users walk the chain.

    Args:
        catalogue: the items' states and weights.
        lengths: [U] int64, items each user gets.
        rng: where chance comes from.

    Returns:
        Items [U, LONGEST] int64, -1 after a user's last; and the distribution [U, N] float64 that
        each user's last item was drawn from.
    """
    U, N = len(lengths), len(catalogue.states)
    user = np.arange(U)
    path = np.full((U, LONGEST), -1)
    seen = np.zeros((U, N), bool)
    final = np.zeros((U, N))
    chances = np.tile(catalogue.weights / catalogue.weights.sum(), (U, 1))
    for step in range(LONGEST):
        if step:
            chances = next_item(catalogue, path[:, step - 1], seen)
        drawn = _draw(chances, rng)
        path[:, step], seen[user, drawn] = drawn, True
        is_last = lengths == step + 1
        final[is_last] = chances[is_last]
    path[np.arange(LONGEST) >= lengths[:, None]] = -1
    return path, final


def _draw(chances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one column a row."""
    heaps = chances.cumsum(axis=1)
    drawn: np.ndarray = (heaps < rng.random((len(chances), 1)) * heaps[:, -1:]).sum(axis=1)
    return drawn


def oracle(path: np.ndarray, final: np.ndarray) -> dict[str, float]:
    """Give the best possible HR@10 on the test items, leave one out, over the whole catalogue.

    The best ten are those likeliest to come next, given all that is hidden. A user's history has no
    chance to come again, so it is masked already; items nobody had are no candidates.

    Args:
        path: [U, LONGEST] int64 of `walk`.
        final: [U, N] float64 of `walk`.

    Returns:
        Shares in [0, 1]: `hr@10`, what the oracle may expect; `hits@10`, what it got on these
        draws; `random@10`, what guessing gets. And `candidates`, how many items may be chosen.
    """
    lengths = (path >= 0).sum(axis=1)
    user = np.arange(len(path))
    catalogue = np.unique(path[path >= 0])
    chances = final[:, catalogue]
    held_out = np.searchsorted(catalogue, path[user, lengths - 1])
    best = np.argsort(-chances, axis=1, kind="stable")[:, :CUTOFF]
    return {
        "hr@10": float(np.take_along_axis(chances, best, axis=1).sum(axis=1).mean()),
        "hits@10": float((best == held_out[:, None]).any(axis=1).mean()),
        "random@10": float(np.minimum(1, CUTOFF / (len(catalogue) - lengths + 1)).mean()),
        "candidates": len(catalogue),
    }


def read_oracle(folder: Path) -> dict[str, float] | None:
    """Read the known answer of a raw folder, where it has one.

    Raises:
        Stop: there is such a file, but not with what `oracle` gives.
    """
    path = folder / ORACLE
    if not path.is_file():
        return None
    fix = f"only generated data have this file, with {', '.join(ANSWERS)}; take it away"
    try:
        answer = files.read_json(path)
    except ValueError as error:
        raise files.Stop(f"{path}: not JSON ({error}); {fix}") from None
    if not isinstance(answer, dict):
        raise files.Stop(f"{path}: {answer!r} is no object of numbers; {fix}")
    for key in [*answer, *ANSWERS]:
        if key not in ANSWERS or not _is_number(answer.get(key)):
            raise files.Stop(
                f"{path}: {key!r} is {answer.get(key)!r}; the rule is a number each; {fix}"
            )
    return answer


def _is_number(value: object) -> bool:
    """Tell whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def invented_words() -> list[list[str]]:
    """Give each taste its invented words: all that begin with its syllable."""
    order = np.random.default_rng(0)  # part of the world, the same for every seed of the demo
    return [
        [first + second for second in order.permutation([s for s in SYLLABLES if s != first])]
        for first in SYLLABLES
    ]


def titles(states: np.ndarray, dialect: Dialect, rng: np.random.Generator) -> list[str]:
    """Write a title an item: a style word or an ordinary one, its taste's word, its maker's."""
    invented = invented_words()
    written = []
    for taste, style in zip(*np.divmod(states, STYLES), strict=True):
        maker = (taste + rng.integers(1, TASTES)) % TASTES
        own, other = (rng.choice(invented[k][dialect.words]) for k in (taste, maker))
        tells_style = rng.random() < 0.5  # noqa: PLR2004  # every other title does
        before = rng.choice(STYLE_WORDS[style] if tells_style else ORDINARY_WORDS)
        written.append(f"{before} {own} by {other}")
    return written


def write(demo: DemoData, out: Path) -> None:
    """Write the demo: NineRec's two roots with their domains, and the oracle's hit rates.

    Same sizes and seed, same bytes. In every domain the first item has no cover, the second a
    broken one, the third no title: real data have such, so the demo has.
    """
    sizes = {name: getattr(demo, name) for name in DIALECTS}
    with files.atomic_folder(out) as folder:
        for number, (name, size) in enumerate(sizes.items()):
            root = "Source_datasets" if name == SOURCE else "Downstream_datasets"
            rng = np.random.default_rng([demo.seed, number])
            write_domain(name, size, folder / root / name, rng)


def write_domain(name: str, size: Size, folder: Path, rng: np.random.Generator) -> None:
    """Write one domain's `_pair.csv`, `_item.csv`, covers, and the oracle's `oracle.json`."""
    dialect = DIALECTS[name]
    states = rng.permutation(np.arange(size.items) % STATES)
    catalogue = Catalogue(states, rng.lognormal(0.0, 0.6, size.items))
    longer = rng.poisson(size.mean_length - SHORTEST, size.users)
    lengths = np.minimum(SHORTEST + longer, LONGEST)
    path, final = walk(catalogue, lengths, rng)
    ids = [f"{dialect.prefix}{number}" for number in 10_000 + rng.permutation(size.items)]
    texts = titles(states, dialect, rng)
    texts[2] = ""

    covers = folder / f"{name}_cover"
    covers.mkdir(parents=True)
    for row, (own, state) in enumerate(zip(ids, states, strict=True)):
        picture = pictures.draw(*divmod(int(state), STYLES), dialect.drawing, rng)
        jpeg = io.BytesIO()
        picture.save(jpeg, "JPEG", quality=90)
        if row:
            whole = jpeg.getvalue()
            (covers / f"{own}.jpg").write_bytes(whole[: len(whole) // 2] if row == 1 else whole)
    columns = {"id": ids, "zh": [""] * size.items, "en": texts}
    pl.DataFrame(columns).write_csv(folder / f"{name}_item.csv", include_header=False)
    log = pairs(path, ids, name[0], rng)
    log.write_csv(folder / f"{name}_pair.csv", include_header=False)
    files.write_json(folder / ORACLE, oracle(path, final))


def pairs(path: np.ndarray, ids: list[str], prefix: str, rng: np.random.Generator) -> pl.DataFrame:
    """Give the interactions as a log: item, user, timestamp (seconds), in the order of time."""
    users, steps = np.nonzero(path >= 0)
    gaps = rng.integers(60, 86_400, path.shape).cumsum(axis=1)
    starts = rng.integers(1_600_000_000, 1_610_000_000, (len(path), 1))
    log = pl.DataFrame(
        {
            "item": np.array(ids)[path[users, steps]],
            "user": [f"{prefix}{user}" for user in users],
            "timestamp": (starts + gaps)[users, steps],
        }
    )
    return log.sort("timestamp", maintain_order=True)
