"""The two blocks of the message that a language model would read, between tags that a boundary may guard."""

from __future__ import annotations

from typing import NamedTuple

_BOUNDARY = "Boundary: "


class Blocks(NamedTuple):
    """What a message shows. The boundary is in neither text: it changes from run to run, answers do not.

    Attributes:
        applicant, job: the texts between the tags.
        applicant_end: where the applicant's block ends, its closing tag included.
        unfenced: all text that could be taken for the author's: without a boundary, the whole message.
    """

    applicant: str
    job: str
    applicant_end: int
    unfenced: str


def read_blocks(message: str) -> Blocks:
    """Find the applicant and the job.

    With ``Boundary: 9f1c`` as the first line only tags such as ``<job 9f1c>`` count, else only plain ones, and then
    the first that closes a block ends it, whoever wrote it.

    Raises:
        ValueError: the message has no applicant block followed by a job block.
    """
    fenced = message.startswith(_BOUNDARY)
    mark = " " + message[len(_BOUNDARY) : message.find("\n")].strip() if fenced else ""
    applicant_start, applicant, applicant_end = _block(message, f"applicant{mark}", 0)
    job_start, job, job_end = _block(message, f"job{mark}", applicant_end)
    outside = (message[:applicant_start], message[applicant_end:job_start], message[job_end:])
    return Blocks(applicant, job, applicant_end, "\n".join(outside) if fenced else message)


def _block(message: str, tag: str, start: int) -> tuple[int, str, int]:
    """Where a block's opening tag starts, its text, and where its closing tag ends."""
    opening, closing = f"<{tag}>\n", f"\n</{tag}>"
    opened = message.find(opening, start)
    closed = message.find(closing, opened + len(opening)) if opened >= 0 else -1
    if closed < 0:
        raise ValueError("the last message holds no <applicant> block followed by a <job> block")
    return opened, message[opened + len(opening) : closed], closed + len(closing)
