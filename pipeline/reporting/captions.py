"""How to read each table and figure of the report, and what its numbers cover."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.data import kinds
from pipeline.data.card import escape
from pipeline.data.kinds import ZEROSHOT
from pipeline.reporting import divisions, markdown, results, tables
from pipeline.reporting.contrasts import ALPHA
from pipeline.reporting.evidence import Evidence
from pipeline.reporting.results import Outcome

CAPPED = (
    f"{tables.DAGGER} The run, or the source's model it starts from, reached its cap of epochs "
    "before its patience ran out: no conclusion is drawn from it."
)
SCORES = (
    "One row per target and split, one column per run: the mean over users with its interval. "
    "Compare runs within a row; from popularity rightwards nothing is trained."
)
CUTOFFS = (
    "MRR (the mean of 1 / rank, 0 past the cutoff), and all three at the other cutoffs of "
    "`evaluate.cutoffs`, read as the tables above."
)
RANKS = (
    "Each run's rank by test HR@10 on each target (1 is best, ties share the mean of their ranks) "
    "and its mean over the targets (Demšar 2006): how a run stands on average, however large or "
    "small a target's numbers. It has no interval; targets are few."
)
CATALOGUE = (
    "*Coverage@K* is the share of candidates in the top K of at least one test user. *Gini@K* says "
    "how unevenly the places in these lists are spread over the candidates, never-recommended ones "
    "included: 0 if all are recommended equally often, 1 if one has all places. Lists leave out "
    "what is masked; equal scores keep the item table's order. Few users cover little of a large "
    "catalogue: compare runs within a row."
)
OCCURRENCES = (
    "Users split by how often their held-out test item occurs in all users' training data (0: no "
    "run from scratch has seen it as a target). Small slices say little, also where all of them "
    "hit or all miss and the interval has no width."
)
HISTORIES = (
    "Users apart by how many items before the test item the user encoder reads; the window of the "
    "protocol cuts the longest (with the paper's 23, 20 is the most)."
)
WORK = (
    "*FLOPs a step* are counted on one real training step, forward and backward, in one process: "
    "two per multiply-add of matrix products, convolutions and attention, nothing else; a kept "
    "prefix is not computed again. *an epoch* is its time with validation, for the first seed at "
    "the chosen setting; *to the best epoch* is the time until then, taking the epochs of a phase "
    "as equally long, with the whole probe where an encoder joined after it. *run folder* is the "
    "size of weights and vectors of all seeds, *embeddings* of what the run reads of its items, "
    "*kept prefix* of an encoder's kept activations."
)
PAPER = (
    "NineRec's published numbers (arXiv 2309.07705, results table of westlake-repl/NineRec; "
    "BERT-base, Swin-B; one training, their source and hyper-parameters) beside ours. A number "
    "marked as a failed training is so by its authors, and nothing to be measured by."
)
COST = (
    "*time* sums all trials of the search and all seeds of a run; *of it the search* is the "
    "trials' part; *one training* is the first seed at the chosen setting: the probe (head and "
    "user encoder; without a trained encoder, all there is), the joint phase (the encoder with "
    "them) and the prefix (its frozen part, once per item). *with its share of pre-training* adds "
    "embedding the target's items, by the public or the tuned encoder, and 1/n of embedding and "
    "training on the source, for the n targets they serve. *peak memory* is the GPU's allocated, "
    "on a CPU the process's resident memory. *trained parameters* learn on the target, *of all* "
    "adds what is frozen, but no encoder that ran beforehand. *epochs* are those of one training, "
    "*trials* the settings the search tried, probes among them. A dash: nothing of the kind was "
    "done."
)
OVERLAP = (
    "*Shared* means an equal text, but for case and white space at its ends, or a cover file of "
    "the same bytes; a domain without covers is compared by texts alone. Equal user ids need not "
    "be the same person: many data sets number their own users (NineRec's ids are per data set)."
)
SLICES = (
    "Users split by whether the source has their held-out test item, *shared* as below: what "
    "transfer gains on items the source lacks can't be memory of them."
)
DATA = (
    "One column per domain, the source first. A held-out item is *cold* if no train part has it, "
    "*repeated* if its user's own window has it earlier: where that is masked it can't be found."
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
        "Bars are test HR@10 with 95 % intervals over users; their colour is the encoder, hatched "
        "runs start from the source's model. Diamonds are validation: a diamond far "
        "from its bar is a run that does otherwise on other items.",
    ),
    "differences": Figure(
        "Differences in test HR@10 of pairs of runs with their intervals around zero, a panel a "
        "target",
        "Right of 0 the first run is ahead. Only filled marks are claimed; claims are corrected "
        "for multiple testing, intervals are not. A mark on 0 without an interval is as a rule one "
        "model twice: no epoch with the encoder beat the start on validation.",
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
        "Two marks a run: users whose held-out item the source shares, and the others; how many "
        f"stands above each panel. A slice of fewer than {divisions.LEAST} users is left out. An "
        "open mark is a slice all of which missed (or hit): its interval has no width, and yet "
        "nothing is sure.",
    ),
    "curves": Figure(
        "Validation HR@10 of every run over its epochs, a panel a target",
        "The first seed of each run, at the chosen search setting; the large marker is the epoch "
        "kept, by `protocol.select`. Where an encoder joined, the curve begins there, with the "
        "probe's best weights: kept at its first point, the encoder is the one it began with.",
    ),
}


def reading(found: Evidence) -> list[str]:
    """Say what holds for all numbers of the report."""
    runs = {result.run for outcome in found.outcomes for result in outcome.runs}
    lines = [
        "Numbers are percent; the 95 % bootstrap intervals in brackets cover the choice of users, "
        f"not chance in training: {covers(found, runs)}. A user's last item is the test, the one "
        "before it validation; all candidates are ranked, ties count at their expected value. A "
        "run's epoch and search setting are chosen on validation alone.",
        "`random` is what random lists would score: its HR@K is the mean over users of K / the "
        "items that may be recommended to a user, 0 where the test item is not one of them. "
        "Popularity, itemKNN and content kNN train nothing: a run trained on the target that stays "
        "below popularity has learned nothing of use; one below the others has yet to earn its "
        "cost.",
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
    transferred = runs & {name for name, kind in kinds.RUNS.items() if kind.start and kind.trains}
    if transferred:
        parts.append(f"for {names(transferred)} also one pre-training")
    if runs & set(ZEROSHOT):
        parts.append(f"for {names(runs & set(ZEROSHOT))} one pre-training and no training")
    return "; ".join(parts)


def contrasts(found: Evidence) -> str:
    """Say how the differences were judged."""
    runs = {run for one in found.contrasts for run in (one.run, one.base)}
    return (
        f"Test items, the same users in both runs; 95 % paired bootstrap intervals, "
        f"{covers(found, runs)}. {judged(len(found.contrasts), found.seeds)}"
    )


def judged(differences: int, seeds: int) -> str:
    """Say how p and reading of so many differences were found."""
    beyond = " and it exceeds the standard deviation between seeds (±)" if seeds > 1 else ""
    return (
        "p is that of the paired randomisation test (if the runs were alike, each user's "
        "difference would be as likely as its negative), corrected by Holm's method for all "
        f"{differences} differences of this page. *reading*: *capped* if one of the runs reached "
        f"its cap; else *higher* or *lower* if p < {ALPHA} and the interval excludes 0{beyond}; "
        "else *not shown*."
    )


def unstated(found: Evidence) -> list[str]:
    """Say which differences were asked for of runs that are not there."""
    pairs = [f"{run} {markdown.MINUS} {base}" for run, base in found.unstated]
    listed = ", ".join(map(escape, pairs))
    why = "one of their runs, contents or user encoders is not listed, or needs a source"
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
            pair = tables.pair(one)
            where = escape(one.group.target)
            if len(found.series()) > 1:
                where += f" ({escape(one.group.content)}, {one.group.user})"
            points = f"{where} {markdown.signed(one.difference.mean)}"
            lines.setdefault(pair, {}).setdefault(one.reading, []).append(points)
    rows = [f"- **{pair}**: {_readings(by)}" for pair, by in lines.items()]
    heading = "Test HR@10, differences in points of percent:"
    return [heading, "\n".join(rows)] if rows else []


def is_any_capped(found: Evidence) -> bool:
    """Tell whether anything in the report carries the mark of a cap."""
    runs = any(one.capped for outcome in found.outcomes for one in outcome.runs)
    return runs or any(one.capped for one in found.costs.others.values())


def names(runs: set[str]) -> str:
    """List runs in code type, in a fixed order."""
    return ", ".join(f"`{run}`" for run in sorted(runs))


def _readings(by: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{tables.READINGS.get(one, one)}: {', '.join(at)}" for one, at in by.items())
