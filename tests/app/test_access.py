import pytest

from app.access import check_access
from app.errors import AccessError, MissingKeyError
from app.settings import Settings

LOOPBACK = Settings()
OUTSIDE = Settings(host="0.0.0.0")  # noqa: S104
KEYED = Settings(admin_key="twelve chars")


def test_programs_on_this_machine_may() -> None:
    check_access(LOOPBACK, [], None, None)
    check_access(LOOPBACK, ["any"], None, "localhost:8000")
    check_access(Settings(host="127.0.0.9"), [], "http://127.0.0.9:1", "127.0.0.9:1")


def test_one_right_key_of_several_is_enough() -> None:
    check_access(KEYED, ["wrong", "twelve chars"], "http://elsewhere.example", "localhost")


def test_refusals_say_how_to_mend_it() -> None:
    with pytest.raises(MissingKeyError) as missing:
        check_access(KEYED, [], None, None)
    assert "Bearer" in missing.value.hint
    with pytest.raises(AccessError) as wrong:
        check_access(KEYED, ["Twelve chars"], None, None)
    assert type(wrong.value) is AccessError
    assert "Twelve chars" not in f"{wrong.value.message} {wrong.value.hint}"
    with pytest.raises(AccessError) as closed:
        check_access(OUTSIDE, ["any"], None, None)
    assert "RENORM_ADMIN_KEY" in closed.value.hint
    with pytest.raises(AccessError, match="web pages"):
        check_access(LOOPBACK, [], "http://elsewhere.example", "localhost")
