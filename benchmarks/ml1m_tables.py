"""The tables of MovieLens-1M: ours beside published values, and what each training took."""

from collections.abc import Mapping
from typing import Any

from benchmarks import measure
from benchmarks import ml1m_data as data
from benchmarks import ml1m_recipes as recipes
from benchmarks.ml1m_published import MODELS, Band

HOUR = 3600.0
HEAD = ["model", "HR@10", "NDCG@10", "D", "L", "seen left out", "source, and what else differs"]
RUNS = [
    "recipe", "seed", "test HR@5, 10, 20", "test NDCG@5, 10, 20", "validation HR@10, NDCG@10",
    "epochs (best)", "hours", "parameters", "", "measured",
]  # fmt: skip
ABOUT = f"""
Equal on all sides: leave-one-out, a user's last item for the test, every item ranked. Ours read
`ml-1m.txt` (MD5 {data.MD5}: 6,040 users, 3,416 items), as all but HSTU's do;
keep the last {data.LENGTH} items of a history (recipes called `-all` learn from older ones too, in
pieces of that length), leave out of a ranking all that the user had before,
and count ties at their expected value (the others at whichever place sorting leaves them). The best
epoch is that of NDCG@10 on validation, each user's last item but one; the test is read once, for
it. *expected* is a band drawn by hand about the published values that are most alike: below it
something is wrong, above it ours is better than they. "?": the source does not say.
"""


def tables(known: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out all that is known: {recipe: {seed: result}}."""
    marked = measure.marks(r["machine"] for by_seed in known.values() for r in by_seed.values())
    return "\n\n".join(
        [
            ABOUT.strip(),
            measure.table(HEAD, comparison(known)),
            measure.table(RUNS, took(known, marked)),
            measure.legend(marked),
        ]
    )


def comparison(known: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Lay out each model that a recipe is known of: ours, the band, then what is published."""
    rows = []
    for key, model in MODELS.items():
        ours = {name: by for name, by in known.items() if recipes.named(name).model == key}
        if not ours:
            continue
        rows.append([f"**{model.title}**", *[""] * (len(HEAD) - 1)])
        for name, by_seed in ours.items():
            rows += [own(name, result, model.band) for result in by_seed.values()]
        if model.band is not None:
            hr, ndcg = (f"{low:.3f}-{high:.3f}" for low, high in model.band)
            rows.append(["expected", hr, ndcg, *[""] * (len(HEAD) - 3)])
        for one in model.published:
            about = f"{one.source}: {one.others}"
            rows.append([one.model, one.hr, one.ndcg, one.width, one.length, one.seen, about])
    return rows


def own(name: str, result: Mapping[str, Any], band: Band | None) -> list[str]:
    """Lay out one of our results; one without a test says how far it is."""
    shape = [str(recipes.WIDTH), str(data.LENGTH), "yes"]
    if "test" not in result:
        far = f"unfinished: {result['epochs']} epochs, best on validation at {result['best_epoch']}"
        return [f"ours, {name}", "", "", *shape, far]
    cells = [result["test"][metric] for metric in ("hr@10", "ndcg@10")]
    return [f"ours, {name}", *(f"**{cell:.4f}**" for cell in cells), *shape, verdict(result, band)]


def verdict(result: Mapping[str, Any], band: Band | None) -> str:
    """Say how a result stands to what is expected, and whether its training was cut short."""
    said = []
    if band is not None:
        for metric, (low, high) in (("hr@10", band.hr), ("ndcg@10", band.ndcg)):
            value = result["test"][metric]
            where = "below" if value < low else "above" if value > high else "within"
            said.append(f"{metric.upper()} {where}")
    said += ["capped: its epochs ran out before its patience"] if result["capped"] else []
    return "; ".join(said)


def took(known: Mapping[str, Mapping[str, Any]], marked: Mapping[str, str]) -> list[list[str]]:
    """Lay out each training: quality at all cutoffs, epochs, time, and where that was."""
    rows = []
    for name, by_seed in known.items():
        for seed, result in by_seed.items():
            tested, judged = result.get("test"), result["valid"]
            at = [f"@{k}" for k in (5, 10, 20)]
            quality = [
                ", ".join(f"{tested[m + k]:.4f}" for k in at) if tested else "unfinished"
                for m in ("hr", "ndcg")
            ]
            notes = ["capped"] if result["capped"] else []
            notes += ["code changed on the way"] if result["codes"] > 1 else []
            rows.append([
                name,
                seed,
                *quality,
                f"{judged['hr@10']:.4f}, {judged['ndcg@10']:.4f}",
                f"{result['epochs']} ({result['best_epoch']})",
                f"{result['seconds'] / HOUR:.2f}",
                f"{result['parameters']:,}",
                ", ".join(notes),
                marked[measure.described(result["machine"])],
            ])  # fmt: skip
    return rows
