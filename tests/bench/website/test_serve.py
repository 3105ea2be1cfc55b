"""The local server: pages that reload, other files as they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from vitptq.bench.errors import BadInput
from vitptq.bench.website.serve import State, fingerprint, server

PAGE = '<head>\n<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">\n</head><body>Hello</body>'


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, State]]:
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "data.json").write_text("{}")
    state = State()
    with server(tmp_path, 0, state) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}", state
        serving.shutdown()


def read(address: str) -> str:
    with urlopen(address) as answer:
        return str(answer.read().decode())


def test_pages_get_a_script_that_reloads_them_and_lose_the_policy_against_it(served: tuple[str, State]) -> None:
    address, _ = served
    for page in ("/", "/index.html", "/index.html?x=1"):
        text = read(address + page)
        assert "location.reload()" in text
        assert "Content-Security-Policy" not in text
    assert read(f"{address}/data.json") == "{}"


def test_state_changes_with_every_build(served: tuple[str, State]) -> None:
    address, state = served
    before = read(f"{address}/.state")
    state.builds += 1
    assert read(f"{address}/.state") != before


def test_changed_new_and_removed_files_are_seen(tmp_path: Path) -> None:
    seen = [fingerprint([tmp_path])]
    (tmp_path / "a.json").write_text("1")
    seen.append(fingerprint([tmp_path]))
    (tmp_path / "a.json").write_text("22")
    seen.append(fingerprint([tmp_path]))
    (tmp_path / "a.json").unlink()
    assert fingerprint([tmp_path]) == seen[0]
    assert len(set(seen)) == 3


def test_port_in_use_is_named(served: tuple[str, State], tmp_path: Path) -> None:
    port = int(served[0].rpartition(":")[2])
    with pytest.raises(BadInput, match=f"port {port} cannot be used"):
        server(tmp_path, port, State())
