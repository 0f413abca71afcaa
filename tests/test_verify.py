"""A download of NineRec beside its published statistics: each fault is seen, with what to do."""

import re

import pytest
import typer
from PIL import Image

from pipeline.data import files, release, verify
from stages import verify as stage
from tests.data.drawn import halves

# Half shares Whole's covers; Plain has a behaviour file alone; Gone is not there.
PUBLISHED = {
    "Half": release.Published(3, 4, 12, release.SOURCES, covers="Whole"),
    "Whole": release.Published(4, 6, 24, release.SOURCES),
    "Plain": release.Published(2, 4, 8, release.TARGETS),
    "Gone": release.Published(2, 4, 8, release.TARGETS),
}


def write(root, name):
    """A data set as published: every user has every item, in the item table's order."""
    published = PUBLISHED[name]
    folder = root / published.folder / name
    folder.mkdir(parents=True)
    items = [f"v{i}" for i in range(1, published.items + 1)]
    users = [f"u{i}" for i in range(1, published.users + 1)]
    rows = "".join(f'{item},题,"a, {item}"\n' for item in items)
    (folder / f"{name}_item.csv").write_text(rows)
    if name == "Plain":
        rows = "".join(f"{user}\t{' '.join(items)}\n" for user in users)
        (folder / f"{name}_behaviour.tsv").write_text(rows)
    else:
        pairs = [f"{item},{user},{i}\n" for user in users for i, item in enumerate(items)]
        (folder / f"{name}_pair.csv").write_text("".join(pairs))
    if published.covers is None:
        (folder / f"{name}_cover").mkdir()
        for item in items:
            halves(size=(300, 200)).save(folder / f"{name}_cover" / f"{item}.jpg")
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A download without fault, without Gone."""
    monkeypatch.setattr(release, "PUBLISHED", PUBLISHED)
    for name in ("Half", "Whole", "Plain"):
        write(tmp_path, name)
    return tmp_path


@pytest.fixture
def check(root, capsys):
    """Run the command: its exit status, the table's cells by data set, and all of stdout."""

    def run(**options):
        with pytest.raises(typer.Exit) as done:
            stage.main(root, **options)
        said = capsys.readouterr().out
        rows = [re.split(r"  +", line) for line in said.split("\n\n")[0].splitlines()]
        assert rows[0] == [*verify.HEADER]
        found = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
        return done.value.exit_code, found, said

    return run


def test_a_whole_download_fits(check):
    status, found, said = check()
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
    (folder / "Whole_cover/v2.jpg").unlink()


def truncate_cover(folder):
    cover = folder / "Whole_cover/v3.jpg"
    cover.write_bytes(cover.read_bytes()[:-400])


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
    (folder / "Whole_cover").rename(folder / "elsewhere")


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
        (spoil_bytes, {"broken lines": "1"}, r"Whole_pair\.csv, line 9: bytes that are not UTF-8"),
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
            "Whole_cover: no such folder of covers; name the right one",
        ),
    ],
)  # fmt: skip
def test_each_fault_is_seen_and_the_others_are_gone_through(root, check, fault, cells, said):
    fault(release.folder(root, "Whole"))
    status, found, text = check()
    assert status == 1
    assert found["Whole"]["verdict"] == "MISMATCH"
    for column, cell in cells.items():
        assert re.fullmatch(cell, found["Whole"][column]), column
    told = text.partition("Does not fit:\n")[2].partition("\n\n")[0]
    assert re.search(said, told), told
    assert all(line.startswith(("- Whole: ", "- Half: ")) for line in told.splitlines())
    assert found["Plain"]["verdict"] == "ok"


def test_of_an_item_table_alone_that_differs_it_is_said(root, check):
    with (release.folder(root, "Whole") / "Whole_item.csv").open("a") as file:
        file.write("v7,,extra\n")
    status, found, said = check()
    assert status == 1
    assert found["Whole"]["items"] == "7 (not 6)"
    assert "the 6 items that occur in interactions are as many as published" in said


def test_a_broken_behaviour_file_is_counted_line_by_line(root, check):
    behaviour = release.folder(root, "Plain") / "Plain_behaviour.tsv"
    behaviour.write_text(behaviour.read_text() + "u3\t\nu4\n")
    status, found, said = check()
    assert (status, found["Plain"]["users"], found["Plain"]["interactions"]) == (1, "2", "8")
    assert found["Plain"]["broken lines"] == "2"
    assert "Plain_behaviour.tsv, line 3: the user or the items are empty" in said
    assert "2 lines break the rules of their files, the first of each file is named above" in said


def test_what_the_reader_alone_refuses_is_a_mismatch(check, monkeypatch):
    def refuse(*_):
        raise files.Stop("Whole_pair.csv: can't be read")

    monkeypatch.setattr("pipeline.data.ninerec.read", refuse)
    status, found, said = check(dataset=["Whole"])
    assert (status, found["Whole"]["interactions"], found["Whole"]["broken lines"]) == (
        1,
        "24",
        "0",
    )
    assert "Does not fit:\n- Whole: Whole_pair.csv: can't be read\n" in said


def test_what_the_reader_warns_of_is_worth_knowing(root, check):
    with (release.folder(root, "Plain") / "Plain_item.csv").open("a") as file:
        file.write("v1,,again\n")
    status, _, said = check()
    assert status == 0
    assert "Worth knowing:\n- Plain: Plain_item.csv: 1 duplicate item rows" in said


@pytest.mark.parametrize("order", ["user,item", "any"])
def test_the_other_order_can_be_accepted(root, check, order):
    swap_columns(release.folder(root, "Whole"))
    status, found, _ = check(columns=order, dataset=["Whole"])
    assert (status, found["Whole"]["columns"]) == (0, "user,item")


def test_the_decoding_of_covers_can_be_a_sample_or_left_out(root, check):
    truncate_cover(release.folder(root, "Whole"))
    assert check(covers="none")[1]["Whole"]["covers broken"] == "0 of 0"
    assert check(covers="none")[1]["Whole"]["takes"] == "?"
    assert check(covers="sample:2")[1]["Whole"]["covers broken"].endswith(" of 2")
    assert check(covers="sample:99")[1]["Whole"]["covers broken"] == "1 of 6"


def test_shared_covers_are_decoded_once(root, check, monkeypatch):
    decoded = []
    covers = stage.cover_check.covers
    read = covers.read
    monkeypatch.setattr(covers, "read", lambda path, size: decoded.append(path) or read(path, size))
    check(dataset=["Half", "Whole"], threads=3)
    assert len(decoded) == len(set(decoded)) == 6


def test_shared_covers_may_lie_beside_their_data_set(root, check):
    folder = release.folder(root, "Whole")
    before = verify.bytes_of(folder)
    (folder / "Whole_cover").rename(folder.parent / "Source_Whole_cover")
    status, found, _ = check()
    assert status == 0
    assert found["Half"]["covers broken"] == "0 of 4"
    assert found["Whole"]["on disk"] == f"{before / 1e6:.1f} MB"
    assert found["Half"]["on disk"] == "0.0 MB", "they are counted once"


def test_a_data_set_that_is_asked_for_must_be_there(check):
    status, found, said = check(dataset=["Gone", "Plain"])
    assert status == 1
    assert (found["Gone"]["verdict"], found["Plain"]["verdict"]) == ("MISMATCH", "ok")
    assert re.search(r"- Gone: .*Downstream_datasets/Gone is not there; download and unpack", said)
    assert "Whole" not in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": ["Bili"]}, "--dataset 'Bili' is not one of Half, Whole, Plain, Gone"),
        ({"covers": "sample:0"}, "--covers 'sample:0': the rule is all, none or sample:N"),
        ({"covers": "some"}, "--covers 'some': the rule is all, none or sample:N"),
    ],
)
def test_options_that_do_not_fit_stop(root, options, message):
    with pytest.raises(files.Stop, match=re.escape(message)):
        stage.main(root, **options)


def test_a_folder_without_any_data_set_stops(root):
    with pytest.raises(files.Stop, match=r"nowhere: none of NineRec's data sets is there; .* with"):
        stage.main(root / "nowhere")


def test_a_large_download_says_how_far_it_is(root, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.content.progress.QUIET", -100.0)
    monkeypatch.setattr("pipeline.content.progress.FILE", 0.0)
    with pytest.raises(typer.Exit):
        stage.main(root, dataset=["Whole"])
    assert re.search(r"verify: Whole, covers: 6 of 6, [\d,]+/s, ETA 0 s", capsys.readouterr().err)


def test_the_published_table_is_that_of_eleven_data_sets():
    shipped = {name: published[:3] for name, published in release.PUBLISHED.items()}
    assert len(shipped) == 11
    actions_a_user = {"Bili_500K": 15.69, "Bili_2M": 12.25, "Bili_Food": 6.07, "KU": 9.10}
    for name, mean in actions_a_user.items():
        users, _, interactions = shipped[name]
        assert interactions / users == pytest.approx(mean, abs=0.005)


def test_a_cover_is_decoded_as_the_pipeline_decodes_it(root, check):
    Image.new("RGB", (9, 9)).save(release.folder(root, "Whole") / "Whole_cover/v1.jpg", "PNG")
    assert check()[0] == 0, "a PNG that is called .jpg is a cover"
