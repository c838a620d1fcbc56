"""The one exception for what the user can mend."""


class UserError(Exception):
    """A mistake that the user can mend: shown as one message without a traceback, exit code 2.

    The message names the value, the rule and the fix.
    """
