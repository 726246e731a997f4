"""The exceptions that a command turns into a message instead of a traceback."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """A problem that the user can mend: bad data, an impossible option, a full disk.

    The message says what is wrong, where, and what to do. Commands print it and exit with 2.
    """


class Interrupted(Exception):
    """A signal stopped the run after its state was saved; the message says how to go on."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum  # the shell's convention


def refuse(problems: Sequence[str], shown: int = 10) -> None:
    """Raises UserError with the first `shown` of the problems, a line each, if there are any."""
    if problems:
        more = [f"... and {len(problems) - shown} more"] if len(problems) > shown else []
        raise UserError("\n".join([*problems[:shown], *more]))
