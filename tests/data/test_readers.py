"""Formats by name."""

from typing import get_args

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from pipeline.data import lists, readers
from pipeline.data.files import Stop
from tests.data.raw_files import TABLE, ninerec_folder


def test_the_format_picks_the_reader(tmp_path):
    assert len(readers.read("ninerec", ninerec_folder(tmp_path), "en", TABLE).interactions) == 12


@pytest.mark.parametrize("kind", ["ninerec", "plain"])
@pytest.mark.parametrize(("language", "text"), [("zh", "题1"), ("en", "title, 1")])
def test_texts_are_in_the_language_that_is_asked_for(tmp_path, kind, language, text):
    folder = ninerec_folder(tmp_path)
    (folder / "D.txt").write_text("u1 v1\n")
    assert readers.read(kind, folder, language, TABLE).items["text"][0] == text


KINDS = {
    "pair.csv": "ninerec", "behaviour.tsv": "ninerec", "events.csv": "table",
    "events.parquet": "table", "D.txt": "plain", "D.inter": "recbole",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_many_interactions_come_in_the_files_order(tmp_path, kind):
    n = 200_000
    rng = np.random.default_rng(0)
    drawn = {"who": rng.integers(0, 5000, n), "what": rng.integers(1, 12, n)}
    frame = pl.DataFrame(drawn).select(
        who="u" + pl.col("who").cast(pl.String), what="v" + pl.col("what").cast(pl.String)
    )
    folder, columns = ninerec_folder(tmp_path, pairs=None), TABLE
    match kind:
        case "pair.csv":
            frame.write_csv(folder / "D_pair.csv", include_header=False)
        case "behaviour.tsv":
            frame = frame.sort("who", maintain_order=True)
            lists = frame.group_by("who", maintain_order=True).agg(pl.col("what").str.join(" "))
            lists.write_csv(folder / "D_behaviour.tsv", include_header=False, separator="\t")
        case "events.csv" | "events.parquet":
            write = frame.write_csv if kind.endswith("csv") else frame.write_parquet
            write(folder / kind)
            (folder / "goods.csv").write_text("sku,name,blurb\nv1,a,b\n")
            columns = TABLE.model_copy(update={"interactions": kind, "timestamp": ""})
        case "D.txt":
            frame.write_csv(folder / kind, include_header=False, separator=" ")
        case "D.inter":
            header = frame.rename({"who": "who:token", "what": "what:token"})
            header.write_csv(folder / kind, separator="\t")
            columns = TABLE.model_copy(update={"timestamp": ""})
    found = readers.read(KINDS[kind], folder, "en", columns).interactions
    assert found["line"].is_sorted()
    assert found.select("user", "item").rows() == frame.rows()


@pytest.mark.parametrize(("scale", "is_doubted"), [(5, True), (20, True), (21, False)])
def test_times_that_look_like_ratings_are_warned_of(tmp_path, scale, is_doubted):
    (tmp_path / "D").mkdir()
    lines = [f"u{n % 7} i{n % 11} {1 + n % scale}" for n in range(readers.MANY)]
    (tmp_path / "D/D.txt").write_text("\n".join(lines) + "\n")
    warnings = readers.read("plain", tmp_path / "D", "en", TABLE).warnings
    said = f"D.txt: its 100 timestamps have {scale} different values; if they are ratings, leave"
    assert [one.startswith(said) for one in warnings] == [True] * is_doubted


def test_few_or_no_times_are_not_doubted(tmp_path):
    (tmp_path / "D").mkdir()
    for text in ("u a 1\n" * (readers.MANY - 1), "u a\n" * readers.MANY):
        (tmp_path / "D/D.txt").write_text(text)
        assert readers.read("plain", tmp_path / "D", "en", TABLE).warnings == []


def test_an_unknown_format_names_the_known(tmp_path):
    with pytest.raises(
        Stop, match=r"format 'csv' of .* is not one of ninerec, plain, recbole, table"
    ):
        readers.read("csv", tmp_path, "en", TABLE)


def test_every_format_may_be_named_in_params_yaml():
    assert list(get_args(lists.Raw.model_fields["format"].annotation)) == [*readers.READERS]
    with pytest.raises(ValidationError, match="format"):
        lists.Raw(format="x; y", folder="a", covers="", language="en")


@pytest.mark.parametrize("form", readers.READERS)
def test_a_missing_folder_is_named(tmp_path, form):
    with pytest.raises(Stop, match=r"gone: no such folder; it should hold the raw files"):
        readers.read(form, tmp_path / "gone", "en", TABLE)
