"""`Browser`: a headless Chromium that opens a page, really clicks on it, and takes screenshots.

It speaks the Chrome DevTools Protocol through two pipes, file descriptors 3 and 4 of the browser,
so it needs no package and no port. A test skips where no Chromium is installed.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
)
TIMEOUT_S = 60.0


class Browser:
    """A browser with one tab, used as a context.

    Args:
        width: Of the view, CSS pixels.
        height: Of the view, CSS pixels.
    """

    def __init__(self, width: int = 1200, height: int = 900) -> None:
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if program is None or shutil.which("bash") is None:
            pytest.skip("needs Chromium, on Debian the package chromium: none is installed")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read_end, self._commands = os.pipe()
        self._answers, write_end = os.pipe()
        options = (*OPTIONS, f"--user-data-dir={self._profile.name}", "about:blank")
        size = f"--window-size={width},{height}"
        script = f'exec "$@" 3<&{read_end} 4>&{write_end}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", program, size, *options],
            pass_fds=(read_end, write_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_end)
        os.close(write_end)
        self._buffer = b""
        self._session = ""
        self._number = 0
        self.messages: list[str] = []
        """Errors and warnings of the page: exceptions, refused scripts and requests."""
        self.requests: list[str] = []
        """Addresses that the page asked for, without data inside it."""

    def __enter__(self) -> Self:
        targets = self._send("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        attached = self._send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._commands)
        os.close(self._answers)
        self._process.terminate()
        self._process.wait(TIMEOUT_S)
        self._profile.cleanup()

    def open(self, page: Path) -> None:
        """Open a file, and wait until it is drawn."""
        self._send("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete'")
        self.wait("new Promise(done => requestAnimationFrame(() => done(true)))")

    def reload(self) -> None:
        """Load the page again, and wait until it is drawn."""
        # A reload begins some time later: until then the old page is there, and complete.
        self.run("window.isOld = true")
        self._send("Page.reload")
        self.wait("!window.isOld && document.readyState === 'complete'")
        self.wait("new Promise(done => requestAnimationFrame(() => done(true)))")

    @contextmanager
    def script_first(self, script: str) -> Iterator[None]:
        """Run a script before those of every page that is loaded in the block."""
        added = self._send("Page.addScriptToEvaluateOnNewDocument", source=script)
        yield
        self._send("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])

    def run(self, script: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the value of an expression in the page; a promise's when it is there."""
        answer = self._send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the value of an expression once it is true; the page may be loaded meanwhile."""
        end = time.monotonic() + TIMEOUT_S
        problem = "it is false"
        while time.monotonic() < end:
            try:
                if value := self.run(script):
                    return value
            except AssertionError as error:
                # What it names may not be there yet, or the page was loaded again before it ended.
                problem = str(error)
            time.sleep(0.02)
        raise AssertionError(f"never true: {script}: {problem}")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Scroll an element into view; return its left, top, width and height, in CSS pixels."""
        found = json.dumps(selector)
        left, top, width, height = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            f" return [b.left, b.top, b.width, b.height]; }})(document.querySelector({found}))"
        )
        return left, top, width, height

    def click(self, selector: str, *, at: tuple[float, float] = (0.5, 0.5)) -> None:
        """Press and release the mouse on an element, at a fraction of its width and height."""
        self.drag(selector, at, at)

    def drag(self, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse on an element, move, and release; in fractions of its size."""
        self.hover(selector, start)
        self._mouse("mousePressed", selector, start)
        if end != start:
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
            self._mouse("mouseMoved", selector, middle)
            self._mouse("mouseMoved", selector, end)
        self._mouse("mouseReleased", selector, end)

    def hover(self, selector: str, at: tuple[float, float] = (0.5, 0.5)) -> None:
        """Move the mouse over an element."""
        self._mouse("mouseMoved", selector, at)

    def set_dark(self, is_dark: bool) -> None:
        """Have the system prefer a dark or a light theme."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path: Path) -> None:
        """Write what is in view as a PNG file."""
        path.write_bytes(base64.b64decode(self._send("Page.captureScreenshot")["data"]))

    def _mouse(self, kind: str, selector: str, at: tuple[float, float]) -> None:
        left, top, width, height = self.box(selector)
        pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        held = {"buttons": 1} if kind == "mousePressed" else {}
        self._send(
            "Input.dispatchMouseEvent",
            type=kind,
            x=left + at[0] * width,
            y=top + at[1] * height,
            **pressed,
            **held,
        )

    def _send(self, method: str, **params: object) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what an event says about errors and requests."""
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.messages.append(str(params["exceptionDetails"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.messages.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning"):
                self.messages.append(str(params["args"]))
            case "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith("data:"):
                    self.requests.append(url)

    def _read(self) -> dict[str, Any]:
        """Return the browser's next message."""
        while b"\0" not in self._buffer:
            part = os.read(self._answers, 1 << 16)
            assert part, "the browser ended"
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        return message
