"""What a person did wrong."""


class UsageProblem(Exception):
    """One line that names the thing and the remedy; ends the command with exit code 2."""
