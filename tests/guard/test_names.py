import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_caliber.guard._names import guarded_aliases, is_reserved_tag, taken_for

GUARDED = guarded_aliases(["champion", "pre-prod"])


@pytest.mark.parametrize(
    "name",
    [
        "Champion", "CHAMPION", "champion\n", "champi0n", "champ1on", "chаmpion", "сhampion", "ｃｈａｍｐｉｏｎ",
        "chämpion", "champıon", "champion_", "𝖈𝖍𝖆𝖒𝖕𝖎𝖔𝖓", "champ\u200bion", "pre_prod", "Previous",
        "рrevious", "сһаmріоn", "charnpion", "сhаmрiоп",
    ],
)  # fmt: skip
def test_names_that_could_be_taken_for_a_guarded_one_are_found(name):
    assert taken_for(name, GUARDED) is not None


@pytest.mark.parametrize(
    "name", [*sorted(GUARDED), "challenger", "champion2", "the_champion", "чемпион", "staging", "v"]
)
def test_other_names_and_the_guarded_ones_themselves_are_not(name):
    assert taken_for(name, GUARDED) is None


@pytest.mark.parametrize(
    "key",
    [
        "caliber_gate_status", "Caliber_gate_status", " caliber_gate_status", "caliber.gate", "caliber-gate", "caliber",
        "ｃaliber_gate_status", "саliber_gate_status", "caIiber_gate_status", "ca1iber_x", "caliber/x", "caliber gate",
        "_caliber_x", "calıber_x", "cáliber_x", "caliber\u200b_x", "CALIBER_X", "саlіbеr_gаtе_ѕtаtuѕ",
    ],
)  # fmt: skip
def test_keys_that_belong_to_the_guard_or_look_so(key):
    assert is_reserved_tag(key)


@pytest.mark.parametrize(
    "key", ["calibre_x", "calibration", "calibers", "mlflow.user", "team", "калибр", "", "cal_iber"]
)
def test_other_keys_do_not(key):
    assert not is_reserved_tag(key)


@given(st.text(max_size=40))
def test_any_text_has_an_answer(text):
    assert is_reserved_tag("caliber_" + text)
    assert taken_for(text, GUARDED) in {None, *GUARDED}
