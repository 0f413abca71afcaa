import re

import polars as pl
import pytest

from pipeline.data import files
from pipeline.reporting import ninerec, tables
from pipeline.reporting.results import Group, Outcome
from tests.reporting.conftest import rename, rows


@pytest.mark.parametrize("name", ["ku", "Bili_Food"])
def test_published_numbers_stand_beside_those_of_ninerecs_data(world, name):
    rename(world, "near", name)
    path = world.root / "cards" / name / "prepare" / "card.json"
    files.write_json(path, files.read_json(path) | {"domain": name})
    text = world.report()
    published = {"ku": ["28.36", "30.77", "31.36"], "Bili_Food": ["18.09", "18.03", "19.59"]}[name]
    row = next(r for r in rows(text, name) if r[1] == published[0])
    assert row[1::2] == published
    assert "2309.07705" in text


@pytest.mark.parametrize(
    ("domain", "user"), [("Bili_Food", "bert4rec"), ("Bili_Movie", "bert4rec")]
)
def test_failed_trainings_of_the_paper_are_marked(domain, user):
    group = Group(domain, "image", user)
    known = {domain: {"domain": domain}}
    outcome = Outcome(group, {"candidates": 10}, {}, [10], pl.DataFrame())
    (row,) = rows(tables.paper([outcome], known), domain)
    assert re.fullmatch(r"(2\.15|1\.64) \(failed training\)", row[3])
    assert "failed" not in row[1] + row[5]


def test_no_other_number_of_the_paper_is_marked_as_failed():
    known = pl.read_csv(ninerec.FILE)
    failed = known.filter(pl.col("failed").is_not_null())
    assert failed.select("domain", "content", "user", "failed").rows() == [
        ("Bili_Food", "image", "bert4rec", "scratch"),
        ("Bili_Movie", "image", "bert4rec", "scratch"),
    ]


def test_a_domain_is_known_by_its_folder_too(world):
    path = world.root / "cards" / "near" / "prepare" / "card.json"
    files.write_json(path, files.read_json(path) | {"source": "QB_behaviour.tsv"})
    assert any("33.92" in row for row in rows(world.report(), "near"))
