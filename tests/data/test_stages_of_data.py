"""The stages `prepare` and `covers`: whole outputs, or none."""

import hashlib
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
        "covers": {"pixels": 8, "max_missing": 1.0},
    }
    YAML().dump(params, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_prepare(work, folder, **options):
    arguments = {
        "domain": "films",
        "form": "ninerec",
        "language": "en",
        "out": work / "out" / "films",
        "card_folder": work / "cards" / "films",
    }
    prepare.main(folder=folder, **arguments | options)


def run_covers(work, folder):
    out, card = work / "out" / "packed", work / "cards" / "packed"
    covers.main("films", str(folder), work / "out" / "films", out, card)


def test_prepare_and_covers_write_what_later_stages_read(work, capsys):
    folder = ninerec_folder(work)
    shots = folder / "D_cover"
    shots.mkdir()
    Image.new("RGB", (9, 9), "red").save(shots / "v2.jpg")
    (shots / "v3.jpg").write_bytes(b"")
    run_prepare(work, folder)
    run_covers(work, shots)

    domain, covered = tables.load(work / "out/films"), packed.load(work / "out/packed")
    assert (len(domain.items), len(domain.users)) == (12, 2)
    assert covered.rows.tolist() == [-1, -1, 0, -1] + [-1] * 9
    card = json.loads((work / "cards/films/card.json").read_text())
    assert card["columns"] == "item,user,timestamp"
    assert "| columns | item,user,timestamp |" in (work / "cards/films/card.md").read_text()
    card = json.loads((work / "cards/packed/card.json").read_text())
    assert (card["items"], card["missing"], list(card["broken"])) == (12, 11, ["v3"])
    digests = packed.read_digests(work / "cards/packed")["cover"].to_list()
    red = hashlib.sha256((shots / "v2.jpg").read_bytes()).hexdigest()
    assert digests == [None, red] + [None] * 10
    said = capsys.readouterr().out
    assert "prepare: films, 2 users, 12 items, 12 of 12 interactions" in said
    assert "columns item,user,timestamp" in said
    assert "covers: films, 1 of 12 items, 8 px, 1 files not there or broken" in said


def test_a_sample_of_users_is_said_and_shown(work, capsys):
    params = YAML(typ="safe").load(work / "params.yaml")
    params["prepare"]["max_users"] = 1
    params["protocol"]["catalogue"] = "all"
    YAML().dump(params, work / "params.yaml")
    run_prepare(work, ninerec_folder(work))
    assert "prepare: films, 1 of 2 users, 12 items, 6 of 12" in capsys.readouterr().out
    card = json.loads((work / "cards/films/card.json").read_text())
    assert card["sampled"] == {"users": 1, "of": 2}
    assert len(tables.load(work / "out/films").users) == 1


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
    ],
)
def test_a_stop_leaves_nothing_half_written(work, pairs, options, message):
    with pytest.raises(Stop, match=message):
        run_prepare(work, ninerec_folder(work, pairs=pairs), **options)
    assert {p.name for p in work.iterdir() if p.is_file() or any(p.iterdir())} == {
        "D", "params.yaml"
    }  # fmt: skip


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
    run_prepare(work, folder)
    with pytest.raises(Stop, match="it can serve content text only, not image or both"):
        run_covers(work, shots)
    with pytest.raises(Stop, match=r"gone: no such folder of covers\. .* can serve content text"):
        run_covers(work, work / "gone")
    assert {p.name for p in (work / "out").iterdir()} == {"films"}
    assert {p.name for p in (work / "cards").iterdir()} == {"films"}


def test_covers_of_other_items_are_none(work):
    folder = ninerec_folder(work)
    (folder / "D_cover").mkdir()
    Image.new("RGB", (9, 9), "red").save(folder / "D_cover" / "other.jpg")
    run_prepare(work, folder)
    with pytest.raises(Stop, match="not one of its 12 items has a readable cover, so it can serve"):
        run_covers(work, folder / "D_cover")


def test_a_domain_of_which_no_covers_are_named_stops(work):
    run_prepare(work, ninerec_folder(work))
    with pytest.raises(
        Stop, match=r"films: its covers are empty\. A domain without covers can serve"
    ):
        run_covers(work, "")


def test_other_covers_leave_what_is_prepared_as_it_is(work):
    folder = ninerec_folder(work)
    shots = folder / "D_cover"
    shots.mkdir()
    run_prepare(work, folder)
    before = (work / "out/films/items.parquet").read_bytes()
    Image.new("RGB", (9, 9), "red").save(shots / "v2.jpg")
    run_prepare(work, folder)
    assert (work / "out/films/items.parquet").read_bytes() == before


def test_a_table_that_names_a_column_of_covers_goes_before_ids(work):
    (work / "goods.csv").write_text(
        "sku,name,file\n" + "".join(f"v{i},t,{'red.png' * (i == 1)}\n" for i in range(1, 13))
    )
    (work / "events.csv").write_text("what,who,when\n" + PAIRS)
    params = YAML(typ="safe").load(work / "params.yaml")
    params["prepare"]["table"] |= {"cover": "file", "text": ["name"]}
    YAML().dump(params, work / "params.yaml")
    shots = work / "shots"
    shots.mkdir()
    for name in ("red.png", "v2.png"):
        Image.new("RGB", (9, 9), "red").save(shots / name)
    run_prepare(work, work, form="table")
    run_covers(work, shots)
    assert packed.load(work / "out/packed").rows.tolist() == [-1, 0] + [-1] * 11


ANSWER = {"hr@10": 0.5, "hits@10": 0.5, "random@10": 0.1, "candidates": 40}


def test_the_known_answer_of_generated_data_is_in_the_card(work):
    folder = ninerec_folder(work)
    (folder / "oracle.json").write_text(json.dumps(ANSWER))
    run_prepare(work, folder)
    assert json.loads((work / "cards/films/card.json").read_text())["oracle"] == ANSWER


def test_it_is_not_that_of_a_sample(work):
    folder = ninerec_folder(work)
    (folder / "oracle.json").write_text(json.dumps(ANSWER))
    params = YAML(typ="safe").load(work / "params.yaml")
    params["prepare"]["max_users"] = 1
    params["protocol"]["catalogue"] = "all"
    YAML().dump(params, work / "params.yaml")
    run_prepare(work, folder)
    card = json.loads((work / "cards/films/card.json").read_text())
    assert (card["users"], "oracle" in card) == (1, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"oracle\.json: not JSON \(.*; only generated data have this file, with hr@10, hits"),
        ("[1]", r"oracle\.json: \[1\] is no object of numbers; .*take it away"),
        (json.dumps({**ANSWER, "<b>": 1}), r"oracle\.json: '<b>' is 1; the rule is a number each"),
        (json.dumps({**ANSWER, "hr@10": "x"}), r"'hr@10' is 'x'; the rule is a number each"),
        (json.dumps({**ANSWER, "hr@10": True}), r"'hr@10' is True; the rule is a number each"),
        (json.dumps({**ANSWER, "hr@10": float("nan")}), r"'hr@10' is nan; the rule is a number"),
        (json.dumps({"hr@10": 0.5}), r"'hits@10' is None; the rule is a number each; only"),
    ],
)
def test_another_file_called_so_stops(work, text, message):
    folder = ninerec_folder(work)
    (folder / "oracle.json").write_text(text)
    with pytest.raises(Stop, match=message):
        run_prepare(work, folder)
