"""How to read each table and figure of the report, and what its numbers cover."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.reporting import markdown, results, tables
from pipeline.reporting.contrasts import ALPHA
from pipeline.reporting.costs import SOURCE_TOWER, ZEROSHOT
from pipeline.reporting.evidence import Evidence
from pipeline.reporting.results import Outcome

CAPPED = (
    f"{tables.DAGGER} The run, or the source's model it starts from, reached its cap of epochs "
    "before its patience ran out: no conclusion is drawn from it."
)
SCORES = (
    "A row a target and part of the data, a column a run: the mean over users with its interval. "
    "Compare runs along a row; columns from popularity on train nothing."
)
CUTOFFS = (
    "MRR (the mean of 1 / rank, 0 past the cutoff), and all three at the other cutoffs of "
    "`evaluate.cutoffs`, read as the tables above."
)
RANKS = (
    "Each run's rank by test HR@10 on each target, 1 being best and equal runs sharing the mean of "
    "their ranks, and its mean over the targets (Demšar 2006): which run is ahead on most targets, "
    "however large or small the numbers there are. No interval belongs to it; targets are few."
)
CATALOGUE = (
    "*Coverage@K* is the share of candidates that stand among the first K of at least one test "
    "user. *Gini@K* says how unevenly the places in these lists fall on the candidates, those "
    "never recommended among them: 0 where each is recommended equally often, 1 where one has all "
    "places. Lists leave out what is masked; equal scores stand in the item table's order. Few "
    "users cover less of a large catalogue: compare runs along a row."
)
OCCURRENCES = (
    "Users apart by how often their held-out test item stands in all users' train parts (0: no "
    "run from scratch has ever seen it as a target), with how many users there are. Small slices "
    "have wide intervals."
)
HISTORIES = (
    "Users apart by how many items before the test item the user encoder reads; the window of the "
    "protocol cuts the longest (with the paper's 23, 20 is the most)."
)
WORK = (
    "*FLOPs a step* are those of one real training step, forward and backward, in one process: "
    "two for each multiplication with its addition in matrix products, convolutions and attention, "
    "nothing else; what is kept of an encoder's prefix is not computed anew. *an epoch* is its "
    "time with validation, of the first seed at the chosen point; *to the best epoch* is the time "
    "until then, every epoch of a phase taken to be equally long, with the whole probe where an "
    "encoder joins after it. *run folder* holds weights and vectors of all seeds, *embeddings* are "
    "what the run reads of its items, *kept prefix* an encoder's kept activations."
)
PAPER = (
    "NineRec's published numbers (arXiv 2309.07705, results table of westlake-repl/NineRec; "
    "BERT-base, Swin-B; one training, their source and hyper-parameters) beside ours. A number "
    "marked as a failed training is so by its authors, and nothing to be measured by."
)
COST = (
    "*time* sums all trials of the search and all seeds of a run; *of it the search* is what its "
    "trials took; *one training* is that of the first seed at the chosen point: the probe (head "
    "and user encoder), the joint phase (the encoder with them) and the prefix (the encoder's "
    "frozen part, once an item). *with its share of pre-training* adds the embedding of the "
    "target's items, by the public encoder or by the tuned one, and 1/n of the source's embedding "
    "and training, n being the targets they serve. *peak memory* is what was allocated on the GPU, "
    "on a CPU the process's resident memory. *trained parameters* are those that learn on the "
    "target, *of all* counts every one of the model. *epochs* are those of one training, *trials* "
    "the points that the search tried. A dash: nothing of the kind was done."
)
OVERLAP = (
    "*Shared* means an equal text, but for case and white space at its ends, or a cover file of "
    "the same bytes; a domain without covers is compared by texts alone. Equal user ids need not "
    "be the same person: many data sets number their own users (NineRec's ids are per data set)."
)
SLICES = (
    "Users apart by whether the source has their held-out test item, *shared* as below: what a "
    "transfer gains on items the source lacks can't be memory of them."
)
DATA = (
    "A column a domain, the source first. A held-out item is *cold* if no train part has it, and "
    "*repeated* if its user's own window has it before, so that it can't be found where that is "
    "masked."
)
FOUNDATIONS = (
    "What several runs share, each counted once here: embedding (`embed`, with a source-tuned "
    "encoder `embed_tuned`) and training on the source (`pretrain`). The columns are those of the "
    "runs' cost."
)


class Figure(NamedTuple):
    """What is said of a figure."""

    alt: str  # what the picture shows
    caption: str  # how to read it


FIGURES = {
    "scores": Figure(
        "Bars of test HR@10 of every run with its interval, a panel a target",
        "Bars are test HR@10 with 95 % intervals over users, upright marks validation: a mark far "
        "from its bar is a run that does otherwise on other items.",
    ),
    "differences": Figure(
        "Differences in test HR@10 of pairs of runs with their intervals around zero, a panel a "
        "target",
        "A mark right of 0 is a gain of the first run over the second. Only filled marks are "
        "claimed; the intervals are not corrected for their number, the claims are.",
    ),
    "cost": Figure(
        "Test HR@10 of every run over the time of its whole chain, a panel a target",
        "Further up is better, further left cheaper. The large marker stands at the time of the "
        "whole chain, with embedding and the run's share of pre-training; the small one joined to "
        "it is the run's own time, which zero-shot runs do not have.",
    ),
    "slices": Figure(
        "Test HR@10 of every run, apart for held-out items that the source has and has not, a "
        "panel a target",
        "Two marks a run: users whose held-out item the source shares, and the others.",
    ),
    "curves": Figure(
        "Validation HR@10 of every run over its epochs, a panel a target",
        "The first seed of each run, at the chosen point of the search; the large marker is the "
        "epoch that was kept, by `protocol.select`. Where an encoder joined, only what followed is "
        "drawn.",
    ),
}


def reading(found: Evidence) -> list[str]:
    """Say what holds for all numbers of the report."""
    runs = {result.run for outcome in found.outcomes for result in outcome.runs}
    lines = [
        f"Numbers are percent, with 95 % bootstrap intervals in brackets: {covers(found, runs)}. A "
        "user's last item is the test, the one before validation; all candidates are ranked, ties "
        "count at their expected value. A run's epoch and point of the search are chosen on "
        "validation alone.",
        "`random` is what lists drawn by lot would give, HR@K being K / candidates. Popularity, "
        "itemKNN and content kNN train nothing: a run that trained on the target and stays below "
        "popularity has a defect, and one below the others has yet to earn its cost.",
    ]
    if found.seeds > 1:
        lines.append(
            f"± is the standard deviation between the {found.seeds} seeds; runs without it train "
            "nothing."
        )
    if is_any_capped(found):
        lines.append(CAPPED)
    if found.oracle:
        lines.append(
            "`oracle` is the best that can be expected by whoever knows how the data arose."
        )
    return lines


def covers(found: Evidence, runs: set[str]) -> str:
    """Say what the intervals of some runs cover, which differs by what a run stands on."""
    trainings = "one training" if found.seeds == 1 else f"the mean of {found.seeds} trainings"
    parts = [f"over users, {trainings}"]
    transferred = runs & set(SOURCE_TOWER) - set(ZEROSHOT)
    if transferred:
        parts.append(f"for {names(transferred)} also one pre-training")
    if runs & set(ZEROSHOT):
        parts.append(f"for {names(runs & set(ZEROSHOT))} one pre-training and no training")
    return "; ".join(parts)


def contrasts(found: Evidence) -> str:
    """Say how the differences were judged."""
    runs = {run for one in found.contrasts for run in (one.run, one.base)}
    seeds = ", and if it exceeds the standard deviation between seeds (±)"
    return (
        f"Test items, the same users in both runs; 95 % paired bootstrap intervals, "
        f"{covers(found, runs)}. p is that of the paired randomisation test (each user's "
        "difference is as likely as its negative), corrected by Holm's method for all "
        f"{len(found.contrasts)} differences of this table. *reading*: a difference is higher or "
        f"lower if p < {ALPHA} and its interval excludes 0{seeds if found.seeds > 1 else ''}; "
        "otherwise it is not shown, and *capped* if one of its runs reached its cap."
    )


def unstated(found: Evidence) -> list[str]:
    """Say which differences were asked for of runs that are not there."""
    pairs = [f"{run} {markdown.MINUS} {base}" for run, base in found.unstated]
    listed = ", ".join(map(markdown.escape, pairs))
    why = "one of their runs is not in `runs`, or needs a source"
    return [f"Asked for, but {why}: {listed}."] if pairs else []


def counts(outcome: Outcome) -> str:
    """Say how many users and candidates a group's numbers stand on, and what is out of reach."""
    numbers = outcome.counts
    text = f"{numbers['users']:,} users, {numbers['candidates']:,} candidates."
    lost = [
        f"{numbers[f'unreachable_{part}']:,} in {title}"
        for part, title in tables.PARTS.items()
        if numbers[f"unreachable_{part}"]
    ]
    if lost:
        text += (
            f" Held-out items that stand in their user's masked history and so count as misses: "
            f"{', '.join(lost)}."
        )
    return text


def summary(found: Evidence) -> list[str]:
    """Say in a line a pair which differences in HR@10 may be claimed."""
    lines: dict[str, dict[str, list[str]]] = {}
    for one in found.contrasts:
        if one.metric == results.HR:
            pair = f"{tables.label(one.run)} {markdown.MINUS} {tables.label(one.base)}"
            where = markdown.escape(one.group.target)
            if len(found.series()) > 1:
                where += f" ({markdown.escape(one.group.content)}, {one.group.user})"
            points = f"{where} {markdown.signed(one.difference.mean)}"
            lines.setdefault(pair, {}).setdefault(one.reading, []).append(points)
    titles = {"not shown": "no difference shown", "capped": f"capped{tables.DAGGER}, no conclusion"}
    rows = [f"- **{pair}**: {_readings(by, titles)}" for pair, by in lines.items()]
    heading = "Test HR@10, differences in points of percent:"
    return [heading, "\n".join(rows)] if rows else []


def is_any_capped(found: Evidence) -> bool:
    """Tell whether anything in the report carries the mark of a cap."""
    runs = any(one.capped for outcome in found.outcomes for one in outcome.runs)
    return runs or any(one.capped for one in found.costs.others.values())


def names(runs: set[str]) -> str:
    """List runs in code type, in a fixed order."""
    return ", ".join(f"`{run}`" for run in sorted(runs))


def _readings(by: Mapping[str, Sequence[str]], titles: Mapping[str, str]) -> str:
    return "; ".join(f"{titles.get(one, one)}: {', '.join(at)}" for one, at in by.items())
