"""A download of NineRec beside its published statistics: each fault is seen, with what to do."""

import re

import pytest
import typer
import typer.testing

from pipeline.data import files
from pipeline.download import cover_check, release, survey, verify
from stages import verify as stage
from tests.download import covers_of, truncate_cover


def test_a_whole_download_fits(verified):
    status, found, said = verified()
    assert status == 0
    expected = {
        "users": "4", "items": "6", "interactions": "24", "columns": "item,user",
        "broken lines": "0", "unknown items": "0", "covers missing": "0",
        "covers broken": "0 of 6", "verdict": "ok",
    }  # fmt: skip
    assert {column: found["Whole"][column] for column in expected} == expected
    assert found["Half"]["covers broken"] == "0 of 4"
    assert found["Plain"]["columns"] == "user,items"
    assert found["Gone"]["verdict"] == "absent"
    assert "verify: 3 ok, 0 MISMATCH, 1 absent" in said
    assert "Does not fit" not in said
    assert "covers packed at 224 px (3 bytes a pixel)" in said


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def lose_cover(folder):
    (covers_of(folder) / "v2.jpg").unlink()


def swap_columns(folder):
    pairs = folder / "Whole_pair.csv"
    rows = [line.split(",") for line in pairs.read_text().splitlines()]
    pairs.write_text("".join(f"{user},{item},{time}\n" for item, user, time in rows))


def lose_interaction(folder):
    replace(folder / "Whole_pair.csv", "v3,u2,2\n", "")


def add_user(folder):
    with (folder / "Whole_pair.csv").open("a") as file:
        file.write("v1,u9,7\n")


def break_line(folder):
    replace(folder / "Whole_pair.csv", "v3,u2,2\n", "v3,u2,soon\n")


def open_quote(folder):
    replace(folder / "Whole_pair.csv", "v3,u2,2\n", 'v3,"u2,2\n')


def spoil_bytes(folder):
    pairs = folder / "Whole_pair.csv"
    pairs.write_bytes(pairs.read_bytes().replace(b"v3,u2,2\n", b"v3,u\xff,2\n"))


def lose_item(folder):
    replace(folder / "Whole_item.csv", 'v6,题,"a, v6"\n', "")


def break_item(folder):
    replace(folder / "Whole_item.csv", 'v6,题,"a, v6"\n', 'v6,"a, v6"\n')


def lose_pairs(folder):
    (folder / "Whole_pair.csv").unlink()


def lose_covers(folder):
    covers_of(folder).rename(folder / "Whole_cover.zip")


@pytest.mark.parametrize(
    ("fault", "cells", "said"),
    [
        (lose_cover, {"covers missing": "1"}, "1 items have no cover: v2; unpack the covers again"),
        (
            truncate_cover, {"covers broken": "1 of 6"},
            r"1 covers can't be read: v3\.jpg \(.*truncated.*\); unpack these again",
        ),
        (
            swap_columns, {"columns": r"user,item \(!\)"},
            "the columns are user,item where item,user was expected; .* say --columns user,item",
        ),
        (
            lose_interaction, {"interactions": r"23 \(not 24\)"},
            "23 interactions, 1 fewer than the 24 published; unpack the archive again",
        ),
        (
            add_user, {"users": r"5 \(not 4\)", "interactions": r"25 \(not 24\)"},
            "5 users, 1 more than the 4 published",
        ),
        (
            break_line, {"broken lines": "1", "interactions": r"23 \(not 24\)"},
            r"Whole_pair\.csv, line 9: the timestamp 'soon' is not an integer of 64 bits; the rule",
        ),
        (open_quote, {"broken lines": "1"}, r"Whole_pair\.csv, line 9: not a row of a CSV file"),
        (spoil_bytes, {"broken lines": "1"}, r"Whole_pair\.csv, line 9: byte 0xff at place 5 is"),
        (
            lose_item, {"items": r"5 \(not 6\)", "unknown items": "4", "covers missing": "0"},
            "4 interactions are with items that the item table lacks; unpack both",
        ),
        (
            break_item, {"items": r"5 \(not 6\)", "broken lines": "1", "unknown items": "4"},
            r"Whole_item\.csv, line 6: 2 columns; the rule is 3: item id, text in Chinese",
        ),
        (
            lose_pairs, {"users": r"0 \(not 4\)", "columns": r"\? \(!\)"},
            r"Whole_pair\.csv: no such file; the folder holds Whole_item\.csv",
        ),
        (
            lose_covers, {"covers missing": "6", "covers broken": "0 of 0"},
            r"Source_Whole_cover: no such folder of covers\. Looked in .*/Source_Whole_cover, "
            r".*/Whole/Source_Whole_cover, .*/Whole/Whole_cover: unpack the archive "
            r".*--covers none",
        ),
    ],
)  # fmt: skip
def test_each_fault_is_seen_and_the_others_are_gone_through(download, verified, fault, cells, said):
    fault(release.folder(download, "Whole"))
    status, found, text = verified()
    assert status == 1
    assert found["Whole"]["verdict"] == "MISMATCH"
    for column, cell in cells.items():
        assert re.fullmatch(cell, found["Whole"][column]), column
    told = text.partition("Does not fit:\n")[2].partition("\n\n")[0]
    assert re.search(said, told), told
    assert all(line.startswith(("- Whole: ", "- Half: ")) for line in told.splitlines())
    assert found["Plain"]["verdict"] == "ok"


def test_of_an_item_table_alone_that_differs_it_is_said(download, verified):
    with (release.folder(download, "Whole") / "Whole_item.csv").open("a") as file:
        file.write("v7,,extra\n")
    status, found, said = verified()
    assert status == 1
    assert found["Whole"]["items"] == "7 (not 6)"
    assert "the 6 items that occur in interactions are as many as published" in said


def test_a_broken_first_line_spoils_itself_alone(download, verified):
    pairs = release.folder(download, "Whole") / "Whole_pair.csv"
    pairs.write_text("oops\n" + pairs.read_text())
    _, found, said = verified(dataset=["Whole"])
    assert (found["Whole"]["interactions"], found["Whole"]["broken lines"]) == ("24", "1")
    assert "Whole_pair.csv, line 1: 1 columns where line 1 has 3" in said


def test_a_title_of_two_lines_is_one_item_in_a_broken_download_too(download, verified):
    folder = release.folder(download, "Whole")
    replace(folder / "Whole_item.csv", '"a, v6"', '"a,\nv6"')
    break_line(folder)
    _, found, _ = verified(dataset=["Whole"])
    assert (found["Whole"]["items"], found["Whole"]["broken lines"]) == ("6", "1")


def test_pairs_with_timestamps_go_before_a_behaviour_file_in_a_broken_download_too(
    download, verified
):
    folder = release.folder(download, "Whole")
    (folder / "Whole_behaviour.tsv").write_text("u1\tv1 v2\n")
    break_line(folder)
    _, found, _ = verified(dataset=["Whole"])
    assert found["Whole"]["columns"] == "item,user"
    assert found["Whole"]["interactions"] == "23 (not 24)"


def test_estimates_by_hand():
    """6 items of which 1 has no cover, read in 3 s, covers decoded at 10 a second."""
    found = survey.Survey(
        users=4, items=[*"abcdef"], interactions=24, used=6, columns="", unknown=0, broken=0,
        faults=[], warnings=[], seconds=3.0,
    )  # fmt: skip
    covers = cover_check.Checked(["a"], {}, decoded=5, rate=10.0, fault="")
    assert verify.needed_seconds(found, covers) == 2 * 3 + 5 / 10
    assert verify.needed_seconds(found, covers._replace(rate=0.0)) is None
    texts, pictures, vectors = 6 * 100, 6 * 3 * 20 * 20, 6 * 2 * 768 * 4
    assert verify.needed_bytes(found, size=20) == 24 * 4 + 4 * 20 + texts + pictures + vectors
    published = release.Published(4, 6, 24, release.SOURCES)
    for on_disk, size, seconds, time in [
        (999_999_999, "1000.0 MB", 3.0, "6 s"), (10**9, "1.00 GB", 45.0, "1.5 min"),
    ]:  # fmt: skip
        cells = verify.report(
            "x", published, found._replace(seconds=seconds), covers, on_disk, 20, None
        ).cells
        shown = dict(zip(verify.HEADER, cells, strict=True))
        assert (shown["on disk"], shown["takes"]) == (size, time)


def test_five_of_what_is_missing_are_named(download, verified):
    for cover in [*release.covers_folder(download, "Whole").iterdir()]:
        cover.rename(cover.with_name(f"of_another_{cover.name}"))
    *_, said = verified(dataset=["Whole"])
    assert "6 items have no cover: v1, v2, v3, v4, v5 and 1 more; unpack" in said


def test_a_broken_behaviour_file_is_counted_line_by_line(download, verified):
    behaviour = release.folder(download, "Plain") / "Plain_behaviour.tsv"
    text = behaviour.read_text().replace("v1 v2", "v1  v2", 1)  # two blanks part no third item
    behaviour.write_text(text + "u3\t\nu4\n")
    status, found, said = verified()
    assert (status, found["Plain"]["users"], found["Plain"]["interactions"]) == (1, "2", "8")
    assert found["Plain"]["broken lines"] == "2"
    assert "Plain_behaviour.tsv, line 3: the user or the items are empty" in said
    assert "2 lines break the rules of their files, the first of each file is named above" in said


def test_what_the_reader_alone_refuses_is_a_mismatch(verified, monkeypatch):
    def refuse(*_):
        raise files.Stop("Whole_pair.csv: can't be read")

    monkeypatch.setattr("pipeline.data.ninerec.read", refuse)
    status, found, said = verified(dataset=["Whole"])
    assert (status, found["Whole"]["interactions"], found["Whole"]["broken lines"]) == (
        1,
        "24",
        "0",
    )
    assert "Does not fit:\n- Whole: Whole_pair.csv: can't be read\n" in said


def test_items_without_a_chinese_title_are_worth_knowing(download, verified):
    """The presets read that column, and `prepare` stops above prepare.max_missing."""
    replace(release.folder(download, "Plain") / "Plain_item.csv", "v2,题,", "v2, ,")
    status, _, said = verified()
    assert status == 0
    known = "Plain: 1 of 4 items (25.00%) have no text in Chinese; `prepare` stops where they are"
    assert f"Worth knowing:\n- {known} more than prepare.max_missing" in said


def test_what_the_reader_warns_of_is_worth_knowing(download, verified):
    with (release.folder(download, "Plain") / "Plain_item.csv").open("a") as file:
        file.write("v1,,again\n")
    status, _, said = verified()
    assert status == 0
    assert "Worth knowing:\n- Plain: Plain_item.csv: 1 duplicate item rows" in said


@pytest.mark.parametrize("order", ["user,item", "any"])
def test_the_other_order_can_be_accepted(download, verified, order):
    swap_columns(release.folder(download, "Whole"))
    status, found, _ = verified(columns=order, dataset=["Whole"])
    assert (status, found["Whole"]["columns"]) == (0, "user,item")


def test_a_data_set_that_is_asked_for_must_be_there(verified):
    status, found, said = verified(dataset=["Gone", "Plain"])
    assert status == 1
    assert (found["Gone"]["verdict"], found["Plain"]["verdict"]) == ("MISMATCH", "ok")
    assert re.search(r"- Gone: .*Downstream_datasets/Gone is not there; download and unpack", said)
    assert "Whole" not in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": ["Bili"]}, "--dataset 'Bili' is not one of Half, Whole, Plain, Gone"),
        ({"covers": "sample:0"}, "--covers 'sample:0': the rule is all, sample:N, such as"),
        (
            {"covers": "some"},
            "--covers 'some': the rule is all, sample:N, such as sample:500, listed or none",
        ),
    ],
)
def test_options_that_do_not_fit_stop(download, options, message):
    with pytest.raises(files.Stop, match=re.escape(message)):
        stage.main(download, **options)


def test_a_folder_without_any_data_set_stops(download):
    with pytest.raises(files.Stop, match=r"nowhere: none of NineRec's data sets is there; .* with"):
        stage.main(download / "nowhere")


def test_the_published_table_is_that_of_eleven_data_sets():
    shipped = {name: published[:3] for name, published in release.PUBLISHED.items()}
    assert len(shipped) == 11
    actions_a_user = {"Bili_500K": 15.69, "Bili_2M": 12.25, "Bili_Food": 6.07, "KU": 9.10}
    for name, mean in actions_a_user.items():
        users, _, interactions = shipped[name]
        assert interactions / users == pytest.approx(mean, abs=0.005)


@pytest.mark.parametrize("option", [["--size", "0"], ["--threads", "-1"]])
def test_numbers_out_of_range_are_refused(download, option):
    app = typer.Typer()
    app.command()(stage.main)
    done = typer.testing.CliRunner().invoke(app, ["--root", str(download), *option])
    assert done.exit_code == 2
    assert f"Invalid value for '{option[0]}'" in done.output
