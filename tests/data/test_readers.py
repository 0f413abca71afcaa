"""Formats by name."""

import pytest

from pipeline.data import readers
from pipeline.data.files import Stop
from tests.data.raw_files import TABLE, ninerec_folder


def test_the_format_picks_the_reader(tmp_path):
    assert readers.read("ninerec", ninerec_folder(tmp_path), "en", TABLE).size == 12


def test_an_unknown_format_names_the_known(tmp_path):
    with pytest.raises(Stop, match=r"format 'csv' of .* is not one of ninerec, table"):
        readers.read("csv", tmp_path, "en", TABLE)


@pytest.mark.parametrize("form", ["ninerec", "table"])
def test_a_missing_folder_is_named(tmp_path, form):
    with pytest.raises(Stop, match=r"gone: no such folder; it should hold the raw files"):
        readers.read(form, tmp_path / "gone", "en", TABLE)
