"""The three ways a run can end without a number, each with its own meaning."""

from __future__ import annotations


class InputError(Exception):
    """The user's input or configuration is wrong: exit code 2, one clear line, no traceback.

    The message says what was found, what was expected and what to do.
    """


class NotApplicableError(Exception):
    """This model cannot do this task (a capability is missing): recorded with the reason, not a failure."""


class InternalError(Exception):
    """Our fault: an adapter or a task broke its contract. Exit code 1."""


def one_line(error: BaseException) -> str:
    """The message of `error` as one tab-free line."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
