"""The verbs of the ``alpha-assets`` command; each module imports what its verb needs when it is called."""
