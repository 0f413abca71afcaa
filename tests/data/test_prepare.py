"""From raw rows to histories: numbering, order, and what is dropped or refused."""

import itertools
import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import ninerec, prepare, raw, table, tables
from pipeline.data.files import Stop
from tests.data.raw_files import (
    ITEMS,
    PAIRS,
    PROTOCOL,
    TABLE,
    encoded,
    ninerec_folder,
    settings,
)


def prepared(tmp_path, items=ITEMS, pairs=PAIRS, behaviour=None, **changes):
    read = ninerec.read(ninerec_folder(tmp_path, items, pairs, behaviour), "en")
    return prepare.prepare("films", read, settings(**changes), PROTOCOL)


def histories(domain):
    ids, lists = domain.items["id"], domain.sequences
    ends = zip(lists.offsets[:-1], lists.offsets[1:], strict=True)
    return {
        user: [ids[i - 1] for i in lists.items[a:b].tolist()]
        for user, (a, b) in zip(domain.users["id"], ends, strict=True)
    }


def test_a_small_domain_by_hand(tmp_path):
    domain, counts = prepared(tmp_path)

    assert histories(domain) == {
        "u1": ["v1", "v2", "v3", "v4", "v5", "v6"],
        "u2": ["v7", "v8", "v9", "v10", "v11", "v12"],
    }
    assert domain.users.rows() == [("u1", 5, 6), ("u2", 11, 12)]
    assert domain.items.row(0) == ("v1", "title, 1", None)
    assert (domain.items.schema, domain.users.schema) == (tables.ITEMS, tables.USERS)
    assert [column.dtype for column in domain.sequences] == [np.int32, np.int64]
    assert counts == prepare.Counts(12, 0, 0, 0, 0, 0, (101, 112))


def test_time_orders_and_the_file_breaks_ties(tmp_path):
    times = {"v1": 3, "v2": 1, "v3": 1, "v4": 10, "v5": 9, "v6": 1}  # as text, 10 is before 9
    pairs = "".join(f"{item},u1,{time}\n" for item, time in times.items())
    domain, _ = prepared(tmp_path, pairs=pairs + PAIRS.replace("u1", "u3"))
    assert histories(domain)["u1"] == ["v2", "v3", "v6", "v1", "v5", "v4"]


def test_without_times_the_file_is_in_order(tmp_path):
    pairs = "".join(f"u1,v{i}\nu2,v{i + 5}\n" for i in (3, 1, 2, 5, 4, 6))
    domain, counts = prepared(tmp_path, pairs=pairs)
    assert histories(domain)["u1"] == ["v3", "v1", "v2", "v5", "v4", "v6"]
    assert counts.times is None


def test_behaviour_keeps_its_order_and_repeats(tmp_path):
    behaviour = "u2\tv12 v11 v12 v10 v9\nu1\tv1 v2 v3 v4 v5 v6 v7 v8\n"
    domain, _ = prepared(tmp_path, pairs=None, behaviour=behaviour)
    assert histories(domain)["u2"] == ["v12", "v11", "v12", "v10", "v9"]


def test_short_users_are_dropped_and_counted(tmp_path):
    domain, counts = prepared(tmp_path, pairs=PAIRS + "v1,u0,1\nv2,u0,2\nv3,u9,999\n")
    assert domain.users["id"].to_list() == ["u1", "u2"]
    assert (counts.read, counts.short_users, counts.short_interactions) == (15, 2, 3)
    assert counts.times == (101, 112)  # of the interactions kept


@pytest.mark.parametrize(("what", "kept", "dropped"), [("keep", 8, 0), ("drop", 6, 2)])
def test_duplicates_follow_the_setting(tmp_path, what, kept, dropped):
    again = "v1,u1,101\nv3,u1,103\nv1,u1,999\n"  # the third is another event: it stays
    domain, counts = prepared(tmp_path, pairs=PAIRS + again, duplicates=what)
    assert len(histories(domain)["u1"]) == kept + 1
    assert histories(domain)["u1"][-1] == "v1"
    assert (counts.duplicates, counts.dropped) == (2, dropped)


def test_dropping_duplicates_can_make_a_user_too_short(tmp_path):
    pairs = PAIRS + "v1,u3,1\nv1,u3,1\nv2,u3,2\nv3,u3,3\nv4,u3,4\n"
    domain, counts = prepared(tmp_path, pairs=pairs, duplicates="drop")
    assert (domain.users["id"].to_list(), counts.short_interactions) == (["u1", "u2"], 4)


def test_unknown_items_stop_with_file_row_and_rule(tmp_path):
    with pytest.raises(Stop) as stop:
        prepared(tmp_path, pairs=PAIRS + "v13,u1,5\n../../x,u1,6\nv13,u2,7\n")
    assert "D_pair.csv: 3 of 15 interactions (20.00%) are with 2 items that the item" in str(
        stop.value
    )
    assert "more than prepare.max_unknown = 0.00% allows: 'v13' (row 13), '../../x' (row 14)" in (
        str(stop.value)
    )
    assert "columns were read as item,user,timestamp" in str(stop.value)


def test_an_unknown_item_that_is_known_in_another_spelling_is_pointed_out(tmp_path):
    with pytest.raises(Stop, match=r"timestamp\. 'v12\.0' is perhaps 'v12' of the item table; "):
        prepared(tmp_path, pairs=PAIRS + "v99,u1,5\nv12.0,u1,6\n")


def test_unknown_items_below_the_limit_are_dropped_and_counted(tmp_path):
    domain, counts = prepared(tmp_path, pairs=PAIRS + "v13,u1,6\n", max_unknown=0.1)
    assert (counts.read, counts.unknown, len(histories(domain)["u1"])) == (13, 1, 6)


def test_missing_texts_stop_with_the_list(tmp_path):
    items = ITEMS.replace('"title, 3"', "").replace('"title, 12"', '" "')
    with pytest.raises(Stop) as stop:
        prepared(tmp_path, items=items, max_missing=0.1)
    assert "films: no text for 2 of 12 items (16.67%), more than max_missing = 10.00%" in str(
        stop.value
    )
    assert "'v3', 'v12'. Check the language or text columns, or raise prepare.max_missing" in (
        str(stop.value)
    )


def test_missing_texts_below_the_limit_are_null(tmp_path):
    domain, _ = prepared(tmp_path, items=ITEMS.replace('"title, 3"', ""), max_missing=0.1)
    assert domain.items["text"].null_count() == 1


def test_no_user_left_stops(tmp_path):
    with pytest.raises(Stop) as stop:
        prepared(tmp_path, pairs="v1,u1,1\nv2,u1,2\nv3,u2,3\n")
    assert "films: no user is left: the longest of 2 histories has 2 items, fewer than" in str(
        stop.value
    )
    assert "protocol.min_items = 5" in str(stop.value)


def test_nothing_known_leaves_no_user(tmp_path):
    with pytest.raises(Stop, match="no user is left: the longest of 0 histories has 0 items"):
        prepared(tmp_path, pairs="x1,u1,1\nx2,u1,2\n", max_unknown=1.0)


def test_fewer_candidates_than_the_cutoff_stop(tmp_path):
    pairs = "".join(f"v{i},u1,{i}\n" for i in range(1, 10))
    with pytest.raises(Stop, match=r"films: 9 candidate items, fewer than the 10 that hr@10 looks"):
        prepared(tmp_path, pairs=pairs)


def test_a_path_as_item_id_is_an_id_like_any_other(tmp_path):
    items, pairs = ITEMS.replace("v1,", "../../x,"), PAIRS.replace("v1,", "../../x,")
    domain, _ = prepared(tmp_path, items=items, pairs=pairs)
    assert histories(domain)["u1"][0] == "../../x"


def test_names_of_covers_from_a_column_are_kept_as_they_are(tmp_path):
    (tmp_path / "goods.csv").write_text(
        "sku,name,file\n" + "".join(f"v{i},t,{f'../{i}.png' * (i < 3)}\n" for i in range(1, 13))
    )
    (tmp_path / "events.csv").write_text("what,who,when\n" + PAIRS)
    columns = TABLE.model_dump() | {"cover": "file", "text": ["name"]}
    read = table.read(tmp_path, table.Table(**columns))
    domain, _ = prepare.prepare("films", read, settings(), PROTOCOL)
    assert domain.items["cover"].to_list() == ["../1.png", "../2.png"] + [""] * 10


def crowd():
    """Pairs of 30 users who stay, and of u0, who is too short; in no order, all times differ."""
    rng = random.Random(0)
    users = ["u0"] * 4 + [f"u{user}" for user in range(1, 31) for _ in range(rng.randint(5, 8))]
    times = rng.sample(range(1000), len(users))
    lines = [
        f"v{rng.randint(1, 12)},{user},{time}\n" for user, time in zip(users, times, strict=True)
    ]
    return rng.sample(lines, len(lines))


def drawn(folder, most, seed=0, pairs=None):
    folder.mkdir()
    return prepared(folder, pairs="".join(pairs or crowd()), max_users=most, seed=seed)


def test_a_sample_is_as_if_the_file_held_these_users_alone(tmp_path):
    domain, counts = drawn(tmp_path / "sample", 7)
    assert (len(domain.users), counts.drawn_from) == (7, 30)
    assert (counts.short_users, counts.short_interactions) == (1, 4)  # u0, drawn or not

    kept = set(domain.users["id"])
    pairs = [line for line in crowd() if line.split(",")[1] in kept]
    by_hand, counted = drawn(tmp_path / "hand", 0, pairs=pairs)
    assert histories(domain) == histories(by_hand)
    assert domain.users.equals(by_hand.users)
    assert domain.items.equals(by_hand.items)  # whole, whoever is drawn
    assert (counts.times, counted.drawn_from) == (counted.times, None)


def test_a_sample_is_contained_in_every_larger_one(tmp_path):
    samples = [drawn(tmp_path / str(most), most)[0] for most in (3, 4, 12, 29, 30, 0)]
    for small, large in itertools.pairwise(samples):
        assert histories(small).items() <= histories(large).items()
        assert small.users["id"].is_sorted()
    assert [len(sample.users) for sample in samples] == [3, 4, 12, 29, 30, 30]


def test_a_sample_depends_on_the_seed_and_not_on_the_order_of_the_file(tmp_path):
    sample, _ = drawn(tmp_path / "sample", 10)
    again, _ = drawn(tmp_path / "again", 10, pairs=sorted(crowd()))
    other, _ = drawn(tmp_path / "other", 10, seed=1)
    assert histories(sample) == histories(again)
    assert set(sample.users["id"]) != set(other.users["id"])


def test_where_there_are_fewer_users_all_are_taken(tmp_path):
    domain, counts = drawn(tmp_path / "sample", 31)
    everyone, _ = drawn(tmp_path / "all", 0)
    assert histories(domain) == histories(everyone)
    assert counts.drawn_from == 30


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 12), st.integers(0, 3)), max_size=40
    ).filter(bool),
    st.sampled_from(["keep", "drop"]),
)
def test_histories_agree_with_a_plain_loop(rows, what):
    rows = [("u", i, i) for i in range(1, 13)] + rows
    events = encoded([(user, f"v{item}", time) for user, item, time in rows])
    items = pl.DataFrame(
        {"id": [f"v{i}" for i in range(1, 13)], "text": ["t"] * 12, "cover": [None] * 12},
        schema=tables.ITEMS,
    )
    read = raw.Raw(events, items, True, ninerec.Path("x"), "", [])
    domain, counts = prepare.prepare("x", read, settings(duplicates=what), PROTOCOL)

    expected = {}
    for user, item, time in dict.fromkeys(rows) if what == "drop" else rows:
        expected.setdefault(user, []).append((time, f"v{item}"))
    ordered = {u: [i for _, i in sorted(h, key=lambda e: e[0])] for u, h in expected.items()}
    assert histories(domain) == {u: h for u, h in sorted(ordered.items()) if len(h) >= 5}
    assert counts.duplicates == len(rows) - len(set(rows))
