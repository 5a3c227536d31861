"""The one kind of error that is meant for the user: a sentence, never a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can mend: bad input, a bad setting, a missing file.

    The message is one sentence that says what is wrong, where (file, key, value) and what to do.
    The command line prints it and exits with code 2.
    """

    everywhere = False
    """Whether every process of a training raises the same sentence, so that one may say it."""

    code = 2
    """The exit code: 2 for what the user can mend."""
