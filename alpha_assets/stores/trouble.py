"""What all troubles of the stores have in common. Imports nothing, so that the command can name it at no cost."""


class StoreTrouble(Exception):
    """A store cannot do what was asked; the message is a sentence for the person who can act."""
