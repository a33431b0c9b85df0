"""A headless Chromium that is asked what it shows, by its own debugging protocol over two pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), "")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
         "--disable-renderer-backgrounding", "--disable-background-timer-throttling",
         "--disable-backgrounding-occluded-windows", "--hide-scrollbars", "--remote-debugging-pipe")  # fmt: skip


class Tab:
    """One page. `requests`: every address that it asked for."""

    def __init__(self, into: int, out: int):
        self._into, self._out, self._left, self._count = into, out, b"", 0
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.send(f"{domain}.enable")

    _session = None

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """A command and its result; events that come before it are read on the way."""
        self._count += 1
        call = {"id": self._count, "method": method, "params": params}
        call |= {"sessionId": self._session} if self._session else {}
        os.write(self._into, json.dumps(call).encode() + b"\0")
        while (said := self._read()).get("id") != self._count:
            pass
        assert "error" not in said, said["error"]
        return said["result"]

    def _read(self) -> Mapping[str, Any]:
        while b"\0" not in self._left:
            more = os.read(self._out, 1 << 20)
            assert more, "the browser is gone"
            self._left += more
        one, self._left = self._left.split(b"\0", 1)
        said = json.loads(one)
        if said.get("method") == "Network.requestWillBeSent":
            self.requests.append(said["params"]["request"]["url"])
        return said

    def open(self, file: Path) -> None:
        """A file, until everything in it has been loaded."""
        self.send("Page.navigate", url=file.resolve().as_uri())
        self.ask("new Promise(done => document.readyState == 'complete' ? done(1) : addEventListener('load', done))")

    def ask(self, script: str) -> Any:
        """What a script on the page says, awaited."""
        how = {"awaitPromise": True, "returnByValue": True}
        found = self.send("Runtime.evaluate", expression=script, **how)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def width(self, pixels: int, height: int = 900) -> None:
        """Show the page in a window of this width."""
        self.send("Emulation.setDeviceMetricsOverride", width=pixels, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, file: Path) -> Path:
        """The whole page, as long as it is."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True, clip=self._whole())
        file.write_bytes(base64.b64decode(shot["data"]))
        return file

    def _whole(self) -> dict[str, float]:
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}


@contextmanager
def browser(home: Path) -> Iterator[Tab]:
    """A Chromium with a profile in `home`, closed at the end."""
    ends = [os.pipe(), os.pipe()]
    (their_in, into), (out, their_out) = ends
    # Chromium reads descriptor 3 and writes 4: away from these first, as a pipe may have been given just them.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (their_in, their_out)]
    command = ["bash", "-c", f'exec "$@" 3<&{high[0]} 4>&{high[1]}', "bash", BROWSER, *FLAGS]
    process = subprocess.Popen(
        [*command, f"--user-data-dir={home / 'user'}", "about:blank"],
        pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for fd in (*high, their_in, their_out):
        os.close(fd)
    try:
        yield Tab(into, out)
    finally:
        process.terminate()
        process.wait()
        os.close(into)
        os.close(out)
