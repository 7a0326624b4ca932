"""How a command ends: errors become two sentences on stderr and an exit code, here alone."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Iterator
from signal import SIGHUP, SIGTERM
from typing import NoReturn

import typer
from rich.console import Console
from rich.text import Text

from sappers.cli.exit_codes import ExitCode, exit_code_for
from sappers.cli.harmless import harmless
from sappers.cli.unexpected import keep_traceback
from sappers.errors import SappersError

_AGAIN_SECONDS = 0.1


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """A block that SIGTERM and SIGHUP, unless they are ignored, end as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    taken = [one for one in (SIGTERM, SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def ended_at_once_by_ctrl_c(words: str = "") -> Iterator[None]:
    """A block that Ctrl-C ends with the process, whatever its threads wait for: a host, a person.

    It leaves what a killed process leaves, but the terminal is as it was.

    Args:
        words: What is said then, on stderr.
    """
    typed_at = sys.stdin.fileno() if sys.stdin.isatty() else None
    terminal = None if typed_at is None else termios.tcgetattr(typed_at)

    def end(*_: object) -> NoReturn:
        with contextlib.suppress(OSError, RuntimeError):  # who is interrupted may be writing
            sys.stdout.flush()
        with contextlib.suppress(OSError, termios.error):
            if typed_at is not None and terminal is not None:
                termios.tcsetattr(typed_at, termios.TCSANOW, terminal)
            os.write(2, f"\n{words}".encode())
        os._exit(ExitCode.INTERRUPTED)

    before = signal.signal(signal.SIGINT, end)
    try:
        with _told_again():
            yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _told_again() -> Iterator[None]:
    """A block whose signals come through to the main thread.

    One that comes right before that thread begins to wait for another does not wake it, and only
    the main thread runs what a signal asks for. So it is sent again until it is heard.
    """
    heard, tell = os.pipe()
    os.set_blocking(tell, False)
    main = threading.get_ident()

    def again() -> None:
        while os.read(heard, 1)[0] == signal.SIGINT:
            time.sleep(_AGAIN_SECONDS)
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    listening = threading.Thread(target=again, daemon=True)
    listening.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(tell, b"\0")
        listening.join()
        os.close(heard)
        os.close(tell)


def run_to_the_end(app: typer.Typer) -> NoReturn:
    """Run a command line and exit the process; no traceback for what is foreseen."""
    code = _exit_code(app)
    # Looking for cycles in all that was imported, as Python does at its end, is a fifth of a short
    # command; there is nothing left to be found.
    gc.freeze()
    sys.exit(code)


def _exit_code(app: typer.Typer) -> int:
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except SappersError as error:
        show_error(error)
        return exit_code_for(error)
    except BrokenPipeError:
        # The reader of our output has gone (`… | head`); nothing more can be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.ERROR
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:
        error.show()  # type: ignore[attr-defined]
        return ExitCode.USAGE
    except Exception as error:
        show_error(keep_traceback(error))
        return ExitCode.ERROR
    return code if isinstance(code, int) else ExitCode.OK


def show_error(error: SappersError) -> None:
    """What happened and what to do, on stderr; red on a terminal."""
    console = Console(stderr=True)
    console.print(Text.assemble(("error: ", "bold red"), harmless(error.message)), soft_wrap=True)
    if error.hint:
        console.print(Text.assemble(("hint: ", "bold"), harmless(error.hint)), soft_wrap=True)
