"""A headless Chromium, driven over the DevTools protocol with real mouse and keyboard events.

https://chromedevtools.github.io/devtools-protocol/. Chromium takes and answers messages over two pipes, so no client
library is needed.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

#: Seconds until a wait gives up.
PATIENCE = 60

#: The browser starts with nothing but the page, and calls no server but ours.
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
)

#: The middle of an element on the screen; null if it is not there, is disabled, or is covered by another.
FIND_PLACE = """(selector) => {
  const element = document.querySelector(selector);
  if (!element || element.disabled) return null;
  element.scrollIntoView({ block: "center" });
  const box = element.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
  return element.contains(document.elementFromPoint(x, y)) ? [x, y] : null;
}"""


def installed():
    """The path of a Chromium or Chrome; None if there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One tab, until the end of a `with`."""

    def __init__(self, profile):
        self._number = 0
        self._buffer = b""
        # Chromium reads from its descriptor 3 and writes to 4; ours are high, so that they are neither.
        theirs_in, ours_out = map(_high, os.pipe())
        ours_in, theirs_out = map(_high, os.pipe())
        flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", *FLAGS]
        if os.geteuid() == 0:
            # Chromium's sandbox does not work for root.
            flags.append("--no-sandbox")
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", installed(), *flags, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = ours_out, ours_in
        self._session = None
        #: What the page logged as an error or a warning, refusals of its content security policy among them.
        self.complaints = []

    def __enter__(self):
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method, **parameters):
        """Calls a method of the protocol, and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _read(self):
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self._in, 1 << 20)
            assert read, "the browser has ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])
        if method == "Runtime.exceptionThrown":
            self.complaints.append(parameters["exceptionDetails"]["exception"].get("description", "an exception"))

    def open(self, url):
        self.call("Page.navigate", url=url)

    def run(self, expression):
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector):
        """The text of the first element that a selector finds; empty if there is none, or it is not visible."""
        script = "(element => element?.checkVisibility() ? element.innerText : '')"
        return self.run(f"{script}(document.querySelector({json.dumps(selector)}))")

    def wait_for(self, what, condition, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            result = condition()
            if result:
                return result
            time.sleep(0.1)
        raise AssertionError(f"not within {patience} s: {what}; the page says {self.text('body')!r}")

    def click(self, selector):
        """Clicks in the middle of an element, as a mouse does, if it is there to be clicked."""
        # The element must be what is at that point: nothing may cover it.
        expression = f"({FIND_PLACE})({json.dumps(selector)})"
        x, y = self.wait_for(f"{selector} can be clicked", lambda: self.run(expression))
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, text=None):
        """Presses a key."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9}
        press = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0), **({"text": text} if text else {})}
        self.call("Input.dispatchKeyEvent", type="keyDown", **press)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def resize(self, width, height, scheme="light"):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        """Writes a picture of what is visible, in PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


def _high(descriptor):
    """The same pipe with a descriptor above those that programs use for themselves."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(descriptor)
    return moved
