"""Whatever is done to the log behind its back is found; and what cannot be found is written down here too."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import assume, given
from hypothesis import strategies as st

from mlflow_caliber._signing import Keyring
from mlflow_caliber.exceptions import InvalidInputError, StateError, StoreError
from mlflow_caliber.ledger import export_ledger, open_ledger, verify_file
from mlflow_caliber.ledger._tables import entries, head

N = 7
KEYS = Keyring.parse("2026:" + "k" * 32)
FIELDS = [column.name for column in entries.columns]
HEAD_FIELDS = ["format", "seq", "sha256", "signature"]
TEXTS = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=12)


class Log:
    """A written log whose rows a test may change in any way; the next one finds it as it was."""

    def __init__(self, ledger):
        self.ledger = ledger
        for n in range(N):
            version = str(n) if n % 2 else None
            ledger.record(actor="mia", action="gate", model="churn", version=version, detail={"n": n, "x": [0.5, None]})
        with ledger._engine.connect() as connection:
            self.rows = [dict(row) for row in connection.execute(sa.select(entries)).mappings()]
            self.head = dict(connection.execute(sa.select(head)).mappings().one())

    def of(self, rows, end):
        """The ledger with these rows instead."""
        with self.ledger._engine.begin() as connection:
            connection.execute(sa.delete(entries))
            connection.execute(sa.delete(head))
            if rows:
                connection.execute(sa.insert(entries), rows)
            if end is not None:
                connection.execute(sa.insert(head).values(end))
        return self.ledger

    def copies(self):
        return [dict(row) for row in self.rows], dict(self.head)


@pytest.fixture(scope="module")
def log():
    with open_ledger("sqlite://", keys=KEYS) as ledger:
        yield Log(ledger)


def found(log, rows, end, **asked):
    verification = log.of(rows, end).verify(**asked)
    assert verification.ok == (verification.problems == ())
    assert (verification.anchor is None) == (not verification.ok)
    return verification.problems


def test_an_honest_log_has_no_problem(log):
    verification = log.of(*log.copies()).verify(anchor=f"3:{log.rows[2]['sha256']}")
    assert verification.ok
    assert (verification.n, verification.signed, verification.keys_given) == (N, N, True)
    assert verification.anchor == f"{N}:{log.rows[-1]['sha256']}"
    assert json.loads(json.dumps(verification.to_dict()))["ok"] is True


@given(row=st.integers(0, N - 1), field=st.sampled_from(FIELDS), value=TEXTS, number=st.integers(-3, N + 3))
def test_every_edit_of_a_field_is_found(log, row, field, value, number):
    rows, end = log.copies()
    new = number if field == "seq" else value
    assume(rows[row][field] != new)
    assume(field != "seq" or number not in {each["seq"] for each in rows})
    rows[row][field] = new
    assert found(log, rows, end)


@given(row=st.integers(0, N - 1), field=st.sampled_from(["version", "target", "signature"]))
def test_a_field_that_is_emptied_is_found(log, row, field):
    rows, end = log.copies()
    assume(rows[row][field] is not None)
    rows[row][field] = None
    assert found(log, rows, end)


@given(row=st.integers(0, N - 1), position=st.integers(0, 200), letter=st.sampled_from('x 0"'))
def test_every_letter_of_a_detail_counts_blanks_too(log, row, position, letter):
    rows, end = log.copies()
    text = rows[row]["detail"]
    position %= len(text) + 1
    rows[row]["detail"] = text[:position] + letter + text[position:]
    assert found(log, rows, end)


@given(field=st.sampled_from(HEAD_FIELDS), value=TEXTS, number=st.integers(-2, N + 3))
def test_every_edit_of_the_head_is_found(log, field, value, number):
    rows, end = log.copies()
    new = number if field in {"format", "seq"} else value
    assume(end[field] != new)
    end[field] = new
    assert found(log, rows, end)


def test_a_head_of_another_entry_is_found_without_keys_too(log):
    with open_ledger("sqlite://") as ledger:
        for n in range(3):
            ledger.record(actor="mia", action="gate", model="churn", detail={"n": n})
        with ledger._engine.begin() as connection:
            connection.execute(sa.update(head).values(sha256="a" * 64))
        assert ledger.verify().problems == ("The head does not have the hash of entry 3, the last one.",)


def test_a_head_that_was_taken_out_is_found(log):
    assert found(log, log.rows, None) == ("The log must have its head, got none: it was taken out or cut off.",)


@given(left=st.sets(st.integers(0, N - 1), max_size=N - 1))
def test_every_deletion_is_found(log, left):
    rows, end = log.copies()
    assert found(log, [rows[i] for i in sorted(left)], end)


@given(one=st.integers(0, N - 1), other=st.integers(0, N - 1))
def test_every_swap_is_found(log, one, other):
    assume(one != other)
    rows, end = log.copies()
    rows[one]["seq"], rows[other]["seq"] = rows[other]["seq"], rows[one]["seq"]
    assert found(log, rows, end)


@given(n=st.integers(0, N - 1))
def test_a_tail_that_is_cut_off_is_found_whatever_is_made_of_the_head(log, n):
    rows, end = log.copies()
    last = rows[n - 1]["sha256"] if n else "0" * 64
    assert found(log, rows[:n], end)
    made_up = {**end, "seq": n, "sha256": last}
    assert found(log, rows[:n], made_up)
    if n:
        assert found(log, rows[:n], {**made_up, "signature": rows[n - 1]["signature"]})
        assert found(log, rows[:n], {**made_up, "signature": None})


def old_head(rows, n):
    """The head as it once stood in the database, with its signature: a backup has it."""
    with open_ledger("sqlite://", keys=KEYS) as ledger:
        honest = replace(ledger.head(), seq=n, sha256=rows[n - 1]["sha256"])
        return {"id": 1, "format": 1, "seq": n, "sha256": honest.sha256, "signature": honest.sign(KEYS)}


@given(n=st.integers(1, N - 1), anchored=st.integers(1, N))
def test_a_backup_that_was_put_back_is_found_by_an_anchor_behind_it_and_by_nothing_else(log, n, anchored):
    rows, _ = log.copies()
    anchor = f"{anchored}:{rows[anchored - 1]['sha256']}"
    problems = found(log, rows[:n], old_head(rows, n), anchor=anchor)
    assert bool(problems) == (anchored > n)
    assert found(log, rows[:n], old_head(rows, n)) == ()


def rewritten(rows, keys):
    """What somebody makes who may write to the database, and knows how hashes are made."""
    with open_ledger("sqlite://", keys=keys) as ledger:
        made = [
            ledger.record(
                **{key: row[key] for key in ("actor", "action", "model", "version", "target")}, detail={"n": 99}
            )
            for row in rows
        ]
        new = [{**entry.to_dict(), "detail": '{"n":99}'} for entry in made]
        return new, {"id": 1, **ledger.head().to_dict()}


def test_a_log_that_was_written_anew_is_found_by_signatures_and_by_an_anchor(log):
    anchor = f"3:{log.rows[2]['sha256']}"
    forged = Keyring.parse("2026:" + "f" * 32)
    assert len(found(log, *rewritten(log.rows, None))) == N + 1
    assert len(found(log, *rewritten(log.rows, forged))) == N + 1
    again = found(log, *rewritten(log.rows, KEYS), anchor=anchor)  # made by whoever has the key too
    assert again == ("Entry 3 is not the one of the anchor: the log was written anew from there or before.",)
    assert found(log, *rewritten(log.rows, KEYS)) == ()


def test_an_entry_put_between_is_found(log):
    rows, end = log.copies()
    middle = {**rows[3], "seq": 4, "actor": "eve"}
    later = [{**row, "seq": row["seq"] + 1} for row in rows[3:]]
    assert found(log, [*rows[:3], middle, *later], {**end, "seq": N + 1})


def test_problems_are_sentences(log):
    rows, end = log.copies()
    rows[1]["actor"], rows[4]["detail"] = "eve", "{}"
    sentences = found(log, [rows[0], rows[1], *rows[4:]], end)
    assert sentences == (
        "Entry 2 was changed: its content does not have the hash that it was written with.",
        "Entry 5 was changed: its content does not have the hash that it was written with.",
        "Entries 3 to 4 are missing.",
    )
    rows[4]["detail"] = '{"n": 4}'
    assert "Entry 5 cannot be read: Its detail is not the JSON that was written." in found(log, rows, end)
    with pytest.raises(StateError, match="Entry 5 of the ledger cannot be read: Its detail is not the JSON"):
        log.ledger.entries()


def test_many_problems_are_cut_short(log):
    rows, end = log.copies()
    many = [{**rows[0], "seq": n, "actor": "eve"} for n in range(1, 90)]
    sentences = found(log, many, end)
    assert len(sentences) == 101
    assert sentences[-1].startswith("And ")


def test_numbers_that_are_none_are_found(log):
    rows, end = log.copies()
    with log.of(rows, end)._engine.begin() as connection:
        connection.execute(sa.text("UPDATE caliber_ledger SET seq = 'x' WHERE seq = 7"))
    assert "Numbers of entries must be whole numbers, got 'x'." in log.ledger.verify().problems


def test_unsigned_entries_of_before_the_keys_can_be_named(log):
    with open_ledger("sqlite://") as ledger:
        first = ledger.record(actor="mia", action="gate", model="churn", detail={})
        ledger._keys = KEYS
        assert ledger.verify().problems == (
            "Entry 1 must be signed, got no signature.",
            "The head must be signed, got no signature.",
        )
        assert ledger.verify(signed_from=2).ok
        ledger.record(actor="mia", action="gate", model="churn", detail={})
        assert ledger.verify(signed_from=2).ok
        assert ledger.verify(anchor=f"1:{first.sha256}").problems == ("Entry 1 must be signed, got no signature.",)


def test_rotated_keys_verify_what_they_signed(log):
    new = Keyring({"2027": b"n" * 32, **KEYS.secrets})
    with open_ledger("sqlite://", keys=KEYS) as ledger:
        ledger.record(actor="mia", action="gate", model="churn", detail={})
        ledger._keys = new
        ledger.record(actor="mia", action="gate", model="churn", detail={})
        assert ledger.verify().ok
        ledger._keys = Keyring({"2027": b"n" * 32})
        expected = "Entry 1: The signature of the ledger must be of a known key (2027), got '2026'."
        assert ledger.verify().problems == (expected,)


def test_a_clock_set_back_by_another_hand_is_a_warning(log, clock):
    with open_ledger("sqlite://", clock=clock) as ledger:
        ledger.record(actor="mia", action="gate", model="churn", detail={})
        clock.wait(-60)
        ledger._time_after = lambda *_: "2026-11-22T11:59:00.000000+00:00"
        ledger.record(actor="mia", action="gate", model="churn", detail={})
        verification = ledger.verify()
        assert verification.ok
        assert verification.warnings == (
            "Entry 2 is of 2026-11-22T11:59:00.000000+00:00, which is before the entry before it.",
        )


@pytest.mark.parametrize("anchor", ["", "3", "3:", "x:" + "0" * 64, "3:" + "0" * 63, "3:" + "0" * 64 + "\n"])
def test_an_anchor_that_is_none(log, anchor):
    with pytest.raises(InvalidInputError, match="anchor must be <number>:<64 hexadecimal digits>, got "):
        log.ledger.verify(anchor=anchor)


def test_tampering_is_found_in_each_database(ledger, act):
    for n in range(3):
        ledger.record(**act(n))
    assert ledger.verify().ok
    with ledger._engine.begin() as connection:
        connection.execute(sa.text("UPDATE caliber_ledger SET actor = 'eve' WHERE seq = 2"))
    assert len(ledger.verify().problems) == 1
    with ledger._engine.begin() as connection:
        connection.execute(sa.text("UPDATE caliber_ledger SET actor = 'mia' WHERE seq = 2"))
        connection.execute(sa.text("DELETE FROM caliber_ledger WHERE seq = 3"))
    assert ledger.verify().problems == ("The head is at entry 3, but the ledger ends at 2: entries were cut off.",)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines(log, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "ledger.jsonl"
    export_ledger(log.of(*log.copies()), path)
    return path.read_bytes().splitlines(keepends=True)


def verified(folder, lines, **asked):
    file = folder / "edited.jsonl"
    file.write_bytes(b"".join(lines))
    return verify_file(file, KEYS, **asked)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("edited")


def test_an_exported_log_verifies_like_the_ledger(log, lines, folder):
    anchor = f"{N}:{log.rows[-1]['sha256']}"
    assert verified(folder, lines, anchor=anchor) == log.of(*log.copies()).verify(anchor=anchor)
    assert len(lines) == N + 1


@given(data=st.data())
def test_every_byte_of_a_file_counts(lines, folder, data):
    number = data.draw(st.integers(0, N))
    at = data.draw(st.integers(0, len(lines[number]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != lines[number][at]))
    edited = lines[number][:at] + bytes([byte]) + lines[number][at + 1 :]
    assert not verified(folder, [*lines[:number], edited, *lines[number + 1 :]]).ok


@given(n=st.integers(0, N), cut=st.integers(0, 300))
def test_every_truncation_of_a_file_is_found(lines, folder, n, cut):
    assume(cut < len(lines[n]))
    assert not verified(folder, [*lines[:n], lines[n][:cut]]).ok


@given(order=st.permutations(range(N + 1)))
def test_lines_in_another_order_are_found(lines, folder, order):
    assume(list(order) != sorted(order))
    assert not verified(folder, [lines[i] for i in order]).ok


def test_the_last_end_of_line_counts(lines, folder):
    for end in (b"", b" ", b"\r\n", b"\n\n"):
        assert not verified(folder, [*lines[:-1], lines[-1].rstrip() + end]).ok


def test_lines_behind_the_head_are_found(lines, folder):
    problems = verified(folder, [*lines, lines[-1]]).problems
    assert problems[0] == f"An entry cannot be read: line {N + 2} stands behind the head."


def test_a_file_that_is_not_there(folder):
    with pytest.raises(StoreError, match="An exported log must be a file that can be read"):
        verify_file(folder / "nothing.jsonl")


def test_long_logs_are_read_in_pieces(tmp_path, monkeypatch, keys):
    monkeypatch.setattr("mlflow_caliber.ledger._ledger._CHUNK", 3)
    monkeypatch.setattr("mlflow_caliber.ledger._file._CHUNK", 3)
    with open_ledger("sqlite://", keys=keys) as ledger:
        for n in range(10):
            ledger.record(actor="mia", action="gate", model="churn", detail={"n": n})
        assert ledger.verify().n == 10
        export_ledger(ledger, tmp_path / "ledger.jsonl")
        assert verify_file(tmp_path / "ledger.jsonl", keys) == ledger.verify()
