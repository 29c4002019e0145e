"""What a person sees: steps, progress, errors. Colours respect NO_COLOR and pipes."""

import contextlib
import os
import sys
import threading
import time

_TERMINAL = sys.stderr.isatty()
_COLOURS = _TERMINAL and "NO_COLOR" not in os.environ


def _paint(code, text):
    return f"\033[{code}m{text}\033[0m" if _COLOURS else text


def say(text=""):
    print(text, file=sys.stderr, flush=True)


def title(text):
    say(_paint("1", text))


def fail(text):
    """One clear line, and the end."""
    say(f"{_paint('1;31', 'error:')} {text}")
    raise SystemExit(2)


@contextlib.contextmanager
def step(text, tail=None):
    """Shows that something takes long: the time it took so far and, where `tail` gives one, its latest line."""
    start = time.monotonic()
    done = threading.Event()

    def tick():
        while not done.wait(0.2):
            latest = (tail() if tail else "")[:70]
            say_over(f"  {_paint('36', '…')} {text} {time.monotonic() - start:4.0f} s  {_paint('2', latest)}")

    ticker = threading.Thread(target=tick, daemon=True)
    if _TERMINAL:
        ticker.start()
    try:
        yield
    except BaseException:
        done.set()
        say_over("")
        say(f"  {_paint('31', '✘')} {text}")
        raise
    done.set()
    if _TERMINAL:
        ticker.join()
        say_over("")
    say(f"  {_paint('32', '✔')} {text} {_paint('2', f'({time.monotonic() - start:.1f} s)')}")


def say_over(text):
    if _TERMINAL:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
