"""Show a built site on this machine, build it again when something changes, and reload it in the browser.

For whoever works on the pages or watches a run: what is published are the files, on any static host.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from vitptq.bench.errors import BadInput

LOOK_S = 1.0
STATE = "/.state"
"""Answers with a word that changes with every build."""
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n?')
RELOAD = (
    "<script>(() => { let seen; setInterval(async () => {"
    f" const now = await (await fetch('{STATE}')).text();"
    " if (seen !== undefined && seen !== now) location.reload(); seen = now; }, 1000); })();</script>"
)


class State:
    """Counts the builds."""

    def __init__(self) -> None:
        self.builds = 0


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of a site; its pages reload themselves, which their own policy would forbid."""

    def __init__(self, *arguments: object, state: State, directory: str) -> None:
        self._state = state
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer a request."""
        path = urlsplit(self.path).path
        if path == STATE:
            self._answer(str(self._state.builds).encode(), "text/plain")
            return
        found = Path(self.translate_path(self.path))
        place = found / "index.html" if path.endswith("/") and found.is_dir() else found
        if place.suffix == ".html" and place.is_file():
            text = POLICY.sub("", place.read_text(encoding="utf-8"), count=1)
            self._answer(text.replace("</body>", f"{RELOAD}</body>").encode(), "text/html; charset=utf-8")
            return
        super().do_GET()

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: each page asks every second whether it is still the newest."""


def server(site: Path, port: int, state: State) -> ThreadingHTTPServer:
    """Return a server of the site for this machine alone; port 0 takes a free one."""
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, state=state, directory=str(site)))
    except OSError as error:
        raise BadInput(f"port {port} cannot be used: {error.strerror}; name another with --port") from None


def serve(site: Path, port: int, watched: Iterable[Path], rebuild: Callable[[], bool]) -> None:
    """Serve until Ctrl-C; after each change below `watched` call `rebuild`, which tells whether it worked."""
    state, places = State(), tuple(watched)
    with server(site, port, state) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        print(f"serving {site} at http://127.0.0.1:{serving.server_address[1]}/ until Ctrl-C", flush=True)
        try:
            seen = fingerprint(places)
            while True:
                time.sleep(LOOK_S)
                now = fingerprint(places)
                if now != seen:
                    seen = now
                    state.builds += rebuild()
        except KeyboardInterrupt:
            print("stopped")
        finally:
            serving.shutdown()


def fingerprint(places: Iterable[Path]) -> frozenset[tuple[str, int, int]]:
    """Return what changes when a file below these folders does: names, times and sizes."""
    found = set()
    for place in places:
        for path in place.rglob("*") if place.is_dir() else ():
            if path.name.startswith(".") or path.suffix == ".tmp" or not path.is_file():
                continue
            state = path.stat()
            found.add((str(path), state.st_mtime_ns, state.st_size))
    return frozenset(found)
