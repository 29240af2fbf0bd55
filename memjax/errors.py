"""The one exception for what its caller can mend."""


class UserError(ValueError):
    """Bad input: one line that names the field, the value and what is allowed.

    Command lines print the message and exit with status 2; anything else is a bug and keeps its
    traceback.
    """
