"""How a command fails: one sentence on stderr and a code that is not zero."""


class CommandFailed(Exception):
    """The command could not do what was asked; the message is for the person who can act."""
