"""`spindle validate --mermaid`: the plan of a workflow as text that draws itself elsewhere."""

import sys

from spindle_control.cli import document
from spindle_control.cli.session import Session, Status


async def mermaid(session: Session, file: str) -> int:
    """Print the flowchart; exit status 2 with every mistake if the workflow is not valid."""
    submission = document.read(file)
    async with session.client() as client:
        found = await client.validate(submission.workflow)
    if session.json:
        session.print_json({"mermaid": found["mermaid"]})
    else:
        sys.stdout.write(found["mermaid"])
    return Status.OK
