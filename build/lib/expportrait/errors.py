"""The kinds of trouble a run can meet, and who is told."""


class UserError(Exception):
    """Bad configuration, manifest or file. Commands print the message, without a traceback, and exit with 1."""


class ClipError(Exception):
    """One clip cannot be processed. ``reason`` is recorded in the stage's index; the other clips go on.

    ``retry`` marks causes that may vanish by themselves (a file not there yet), which are not remembered. ``quality``:
    figures of the clip, JSON values, recorded beside the reason for whoever chooses thresholds.
    """

    def __init__(self, reason: str, retry: bool = False, quality: dict | None = None):
        super().__init__(reason)
        self.reason, self.retry, self.quality = reason, retry, quality


class StageBroken(Exception):
    """Too many clips failed in ways nobody foresaw: it is the stage, not the clips. The job fails."""


class MachineFault(Exception):
    """The machine failed (out of memory, disk full, no GPU). Never a clip's fault: the job fails."""
