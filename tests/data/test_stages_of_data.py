"""The stages `prepare` and `covers`: whole outputs, or none."""

import json

import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline.data import covers as packed
from pipeline.data import tables
from pipeline.data.files import Stop
from stages import covers, prepare
from tests.data.raw_files import PAIRS, PROTOCOL, SETTINGS, ninerec_folder


@pytest.fixture
def work(tmp_path, monkeypatch):
    params = {
        "prepare": SETTINGS.model_dump(),
        "protocol": PROTOCOL.model_dump(),
        "covers": {"size": 8, "max_missing": 1.0},
    }
    YAML().dump(params, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_prepare(work, folder, covers_folder="", **options):
    arguments = {
        "domain": "films",
        "form": "ninerec",
        "language": "en",
        "out": work / "out" / "films",
        "card_folder": work / "cards" / "films",
    }
    prepare.main(folder=folder, covers_folder=str(covers_folder), **arguments | options)


def run_covers(work, folder):
    out, card = work / "out" / "packed", work / "cards" / "packed"
    covers.main("films", str(folder), work / "out" / "films", out, card)


def test_prepare_and_covers_write_what_later_stages_read(work, capsys):
    folder = ninerec_folder(work)
    shots = folder / "D_cover"
    shots.mkdir()
    Image.new("RGB", (9, 9), "red").save(shots / "v2.jpg")
    (shots / "v3.jpg").write_bytes(b"")
    run_prepare(work, folder, shots)
    run_covers(work, shots)

    domain, covered = tables.load(work / "out/films"), packed.load(work / "out/packed")
    assert (len(domain.items), len(domain.users)) == (12, 2)
    assert covered.rows.tolist() == [-1, -1, 0, -1] + [-1] * 9
    card = json.loads((work / "cards/films/card.json").read_text())
    assert (card["columns"], card["share_without"]["cover"]) == ("item,user,timestamp", 10 / 12)
    assert "| columns | item,user,timestamp |" in (work / "cards/films/card.md").read_text()
    card = json.loads((work / "cards/packed/card.json").read_text())
    assert (card["missing"], list(card["broken"])) == (11, ["v3"])
    said = capsys.readouterr().out
    assert "prepare: films, 2 users, 12 items, 12 of 12 interactions" in said
    assert "columns item,user,timestamp" in said
    assert "covers: films, 1 of 12 items, 8 px, 1 files broken" in said


def test_the_same_input_gives_the_same_bytes(work):
    folder = ninerec_folder(work)
    for out in ("a", "b"):
        run_prepare(work, folder, out=work / out, card_folder=work / f"{out}-card")
    for file in ("items.parquet", "users.parquet", "sequences.npy", "offsets.npy"):
        assert (work / "a" / file).read_bytes() == (work / "b" / file).read_bytes()


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        (None, {}, "no such file"),
        (PAIRS + "v1,u1,x\n", {}, "line 13: the timestamp 'x'"),
        (PAIRS + "v99,u1,1\n", {}, "the item table lacks"),
        ("v1,u1,1\n", {}, "no user is left"),
        (PAIRS, {"domain": "a; rm -rf x"}, "domain 'a; rm -rf x': a name has letters, digits"),
        (PAIRS, {"covers_folder": "gone"}, "gone: no such folder of covers"),
    ],
)
def test_a_stop_leaves_nothing_half_written(work, pairs, options, message):
    with pytest.raises(Stop, match=message):
        run_prepare(work, ninerec_folder(work, pairs=pairs), **options)
    assert {p.name for p in work.iterdir()} == {"D", "params.yaml"}


def test_a_stop_leaves_the_former_output(work):
    run_prepare(work, ninerec_folder(work))
    with pytest.raises(Stop):
        run_prepare(work, ninerec_folder(work, pairs="v1,u1,1\n", name="E"))
    assert len(tables.load(work / "out/films").users) == 2


def test_a_domain_without_readable_covers_stops_and_leaves_nothing(work):
    folder = ninerec_folder(work)
    shots = folder / "D_cover"
    shots.mkdir()
    (shots / "v3.jpg").write_bytes(b"")
    run_prepare(work, folder, shots)
    with pytest.raises(Stop, match="it can serve content text only, not image or both"):
        run_covers(work, shots)
    assert {p.name for p in (work / "out").iterdir()} == {"films"}
    assert {p.name for p in (work / "cards").iterdir()} == {"films"}


def test_a_domain_of_which_no_covers_are_named_stops(work):
    run_prepare(work, ninerec_folder(work))
    with pytest.raises(
        Stop, match=r"films: its covers are empty\. A domain without covers can serve"
    ):
        run_covers(work, "")
