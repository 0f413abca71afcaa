"""The covers of a download: decoded once, counted where they lie, and the time they will take."""

import re
import shutil

import pytest
import typer
from PIL import Image

from pipeline.download import cover_check, release, verify
from stages import verify as stage
from tests.download import covers_of, truncate_cover


def test_the_decoding_of_covers_can_be_a_sample_or_left_out(download, verified):
    truncate_cover(release.folder(download, "Whole"))
    assert verified(covers="listed")[1]["Whole"]["covers broken"] == "0 of 0"
    assert verified(covers="listed")[1]["Whole"]["takes"] == "?"
    assert verified(covers="sample:2")[1]["Whole"]["covers broken"].endswith(" of 2")
    assert verified(covers="sample:99")[1]["Whole"]["covers broken"] == "1 of 6"


def test_who_uses_texts_alone_needs_no_covers(download, verified):
    whole = verified()[1]["Whole"]["needs"]
    shutil.rmtree(covers_of(release.folder(download, "Whole")))
    assert verified(dataset=["Whole"])[0] == verified(dataset=["Whole"], covers="listed")[0] == 1
    status, found, said = verified(dataset=["Whole"], covers="none")
    row = found["Whole"]
    assert status == 0 and "cover" not in said.partition("needs:")[0].partition("\n")[2]
    assert (row["covers missing"], row["covers broken"]) == ("-", "-")
    assert re.fullmatch(r"\d+ s", row["takes"])
    # 6 items less, each with 3 x 224^2 bytes of pixels and 4 x 768 of an embedding: 0.92 MB.
    assert (whole, row["needs"]) == ("0.9 MB", "0.0 MB")


def test_a_sample_of_covers_is_drawn_once_for_all(download):
    covers, items = release.covers_folder(download, "Whole"), [f"v{i}" for i in range(1, 7)]
    samples = []
    for _ in range(5):
        known = {}
        checked = cover_check.check("Whole", covers, "", items, 3, 64, 1, known)
        assert checked.decoded == len(known) == 3, "none is drawn twice"
        samples.append([*known])
    assert samples == [samples[0]] * 5


def test_shared_covers_are_decoded_once(download, verified, monkeypatch):
    decoded = []
    decoding = stage.cover_check.decoding
    read = decoding.read
    monkeypatch.setattr(
        decoding, "read", lambda path, size: decoded.append(path) or read(path, size)
    )
    verified(dataset=["Half", "Whole"], threads=3)
    assert len(decoded) == len(set(decoded)) == 6


def test_shared_covers_may_lie_in_their_data_set(download, verified):
    folder = release.folder(download, "Whole")
    before = verify.bytes_of(folder) + verify.bytes_of(covers_of(folder))
    covers_of(folder).rename(folder / "Whole_cover")
    status, found, said = verified()
    assert status == 0
    for name in ("Half", "Whole"):
        assert re.search(
            rf"- {name}: its covers are in .*/Source_datasets/Whole/Whole_cover; a preset that "
            rf"names .*/Source_Whole_cover needs that as the covers of domains\.all\.{name}\n",
            said,
        )
    assert found["Half"]["covers broken"] == "0 of 4"
    assert found["Whole"]["on disk"] == f"{before / 1e6:.1f} MB"
    assert found["Half"]["on disk"] == "0.0 MB", "they are counted once"


def test_a_large_download_says_how_far_it_is(download, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.data.progress.QUIET", -100.0)
    monkeypatch.setattr("pipeline.data.progress.FILE", 0.0)
    with pytest.raises(typer.Exit):
        stage.main(download, dataset=["Whole"])
    assert re.search(r"verify: Whole, covers: 6 of 6, [\d,]+/s, ETA 0 s", capsys.readouterr().err)


def test_a_cover_is_decoded_as_the_pipeline_decodes_it(download, verified):
    Image.new("RGB", (9, 9)).save(release.covers_folder(download, "Whole") / "v1.jpg", "PNG")
    assert verified()[0] == 0, "a PNG that is called .jpg is a cover"


def test_a_link_that_leads_nowhere_is_no_cover_and_takes_nothing(download, verified):
    folder = release.folder(download, "Whole")
    (folder / "notes").symlink_to(folder / "nowhere")
    before = verify.bytes_of(covers_of(folder))
    cover = covers_of(folder) / "v1.jpg"
    size = cover.stat().st_size
    cover.unlink()
    cover.symlink_to(download / "gone.jpg")
    status, found, said = verified()
    assert status == 1
    assert found["Whole"]["covers missing"] == "1"
    assert "- Whole: 1 items have no cover: v1; unpack the covers again" in said
    assert verify.bytes_of(covers_of(folder)) == before - size
    assert found["Plain"]["verdict"] == "ok"


def test_covers_that_are_linked_count_as_those_that_are_not(download, verified):
    folder = release.folder(download, "Whole")
    covers = covers_of(folder)
    Image.effect_noise((600, 600), 99).save(covers / "more.png")  # so that MB show it
    expected = verified()[1]["Whole"]["on disk"]
    covers.rename(download / "elsewhere")
    covers.symlink_to(download / "elsewhere")
    status, found, _ = verified()
    assert (status, found["Whole"]["on disk"]) == (0, expected)
    assert found["Whole"]["on disk"] != "0.0 MB"
    assert found["Half"]["on disk"] == "0.0 MB"


@pytest.mark.parametrize(("cores", "threads", "used"), [(64, 0, 4), (3, 0, 3), (64, 9, 9)])
def test_covers_are_decoded_by_as_many_threads_as_the_stage_has(
    verified, monkeypatch, cores, threads, used
):
    """So that the rate, and the time that `covers` is said to take, is that of the stage."""
    asked = []
    pool = stage.cover_check.ThreadPoolExecutor
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(
        stage.cover_check, "ThreadPoolExecutor", lambda n: asked.append(n) or pool(1)
    )
    verified(dataset=["Whole"], threads=threads)
    assert asked == [used]
