"""Every refusal of mindhand says three things: what is wrong, what was expected, what to do next."""


class Refusal(ValueError):
    """An input that mindhand will not use, because using it would give a silently wrong number.

    `what` names the offending thing, `expected` what should have been there, `do` the next step.
    """

    def __init__(self, what: str, expected: str, do: str):
        super().__init__(f"{what}\n  expected: {expected}\n  next step: {do}")
        self.what, self.expected, self.do = what, expected, do

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.what, self.expected, self.do)  # worker processes raise it in their parent


class SpecMismatch(Refusal):
    """Two sides speak different conventions."""


class BadData(Refusal):
    """A dataset, file or array that is truncated, foreign, of the wrong shape or not finite."""


class BadCheckpoint(Refusal):
    """A checkpoint folder that is damaged, incomplete or another robot's."""


class BuildError(Refusal):
    """Parts that do not fit together: an unmet need, or two occupants of one slot."""
