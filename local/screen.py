"""What a person sees: steps, progress and errors. Colours are for terminals, and respect NO_COLOR."""

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
    """Prints one line and exits."""
    say(f"{_paint('1;31', 'error:')} {text}")
    raise SystemExit(2)


@contextlib.contextmanager
def step(text, tail=None):
    """Shows the progress of something slow: the time so far and, if `tail` returns one, its latest line."""
    start = time.monotonic()
    done = threading.Event()
    ticker = threading.Thread(target=_tick, args=(text, tail, start, done), daemon=True)
    if _TERMINAL:
        ticker.start()
    try:
        yield
    except BaseException:
        done.set()
        _say_over("")
        say(f"  {_paint('31', '✘')} {text}")
        raise
    done.set()
    if _TERMINAL:
        ticker.join()
        _say_over("")
    say(f"  {_paint('32', '✔')} {text} {_paint('2', f'({time.monotonic() - start:.1f} s)')}")


def _tick(text, tail, start, done):
    while not done.wait(0.2):
        latest = (tail() if tail else "")[:70]
        _say_over(f"  {_paint('36', '…')} {text} {time.monotonic() - start:4.0f} s  {_paint('2', latest)}")


def _say_over(text):
    """Replaces the current line of the terminal."""
    if _TERMINAL:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
