"""What the page's server is made of, without one: names, limits, forms, options."""

import contextlib
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verger.cli import main
from verger.recogniser import Answer, Guess
from verger.web.answers import describe, names_of
from verger.web.pages import policy
from verger.web.rate import BURST, MOST_CLIENTS, RateLimit
from verger.web.refusal import RefusalError
from verger.web.upload import photo_in


def test_a_rate_is_a_burst_and_then_a_rhythm_in_memory_of_a_fixed_size() -> None:
    rate = RateLimit(per_minute=6)
    assert [rate.seconds_to_wait("a", 100.0) for _ in range(BURST + 1)] == [0.0] * BURST + [pytest.approx(10)]
    assert rate.seconds_to_wait("a", 110.0) == 0
    assert rate.seconds_to_wait("a", 110.0) == pytest.approx(10)
    assert rate.seconds_to_wait("b", 110.0) == 0
    assert [rate.seconds_to_wait(f"2001:db8::{i}", 0.0) > 0 for i in range(BURST + 1)] == [False] * BURST + [True]
    for i in range(2 * MOST_CLIENTS):
        rate.seconds_to_wait(f"client {i}", 200.0)
    assert len(rate._due) == MOST_CLIENTS


def test_a_policy_knows_a_page_by_its_own_script_and_style() -> None:
    digest = "IaAnC39moeTCWTPxOh5aG7tHV1eAcpMMgYkTH5xqquE="  # printf script | openssl dgst -sha256 -binary | base64
    assert policy("<script>script</script><p>").endswith(f"script-src 'sha256-{digest}'")


@given(st.binary(max_size=200), st.text(max_size=60))
def test_no_form_breaks_the_reader(body: bytes, boundary: str) -> None:
    with contextlib.suppress(RefusalError):
        assert len(photo_in(f"multipart/form-data; boundary={boundary}", body)) <= len(body)


def test_a_form_without_a_file_is_told_so() -> None:
    with pytest.raises(RefusalError, match="bad_request"):
        photo_in(
            "multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--'
        )
    with pytest.raises(RefusalError, match="bad_request"):
        photo_in("multipart/form-data", b"apple")


def test_a_label_that_is_a_parent_has_its_own_name_and_card() -> None:
    guesses = (Guess("Apple Braeburn 1", ("Apple",), 0.6), Guess("Apple Red 2", ("Apple",), 0.3))
    told = describe(Answer("Apple", sure=True, known=True, probability=0.9, guesses=guesses, distance=0.5), [b"x"])
    assert (told.french, told.english) == ("Pomme", "Apple")
    assert [guess.french for guess in told.guesses] == ["Pomme Braeburn 1", "Pomme, Red 2"]
    assert told.fruit
    assert told.fruit.name == "apple"
    assert told.lookalikes == ["data:image/jpeg;base64,eA=="]


@pytest.mark.parametrize(
    ("label", "parents", "french", "english"),
    [
        ("pear", (), "Poire", "Pear"),
        ("Golden-Delicious", ("Apple",), "Pomme Golden Delicious", "Golden Delicious apple"),
        ("Variety_7", ("Pear",), "Poire, Variety 7", "Pear, Variety 7"),
        ("strawberries", (), "Fraise", "Strawberry"),
        ("A thing", ("Things",), "A thing", "A thing"),
    ],
)
def test_labels_have_names_for_people(label: str, parents: tuple[str, ...], french: str, english: str) -> None:
    assert names_of(label, parents) == (french, english)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "--allow-remote"),
        (["--host", "::"], "--allow-remote"),
        (["--port", "70000"], "`port` between 0 and 65535"),
        (["--workers", "-1"], "`workers` between 1 and 256"),
        (["--max-bytes", "10"], "`max_bytes` between"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["serve", "/nowhere", *options])
    assert exited.value.code == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as exited:
        main(["serve", "/nowhere", "--port", str(taken.getsockname()[1])])
    assert exited.value.code == 2
    assert "Choose another --port" in capsys.readouterr().err


def test_without_fastapi_the_command_that_installs_it_is_named() -> None:
    code = "import sys; sys.modules['fastapi'] = None; from verger.cli import main; main(['serve', 'out'])"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install 'verger[web]'" in done.stderr
