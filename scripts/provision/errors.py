"""The one error that the command line prints without a stack trace."""


class ProvisionError(Exception):
    """A service could not be installed, started or stopped; the text says what to do."""
