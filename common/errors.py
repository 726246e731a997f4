"""The one exception that a command turns into a message instead of a traceback."""


class UserError(Exception):
    """A problem that the user can mend: bad data, an impossible option, a full disk.

    The message says what is wrong, where, and what to do. Commands print it and exit with 2.
    """
