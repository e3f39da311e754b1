"""Generated from common/schemas by `just gen`; do not edit."""

from .artifact_schema import Artifact
from .dead_letter_schema import PastAttempt, DeadLetter
from .event_schema import Event
from .manifest_schema import Port, ModelInfo, NodeType, Manifest
from .problem_schema import Mistake, Problem
from .run_schema import (
    WorkflowIdentity,
    Question,
    Answer,
    ForkFromItem,
    NodeRecord,
    Run,
    Submission,
    Fork,
)
from .task_schema import TaskNode, Outcome, Task
from .workflow_schema import (
    Id,
    Duration,
    InputSpec,
    Timeouts,
    RetryPolicy,
    Workflow,
    WorkflowNode,
    Body,
)

__all__ = [
    "Answer",
    "Artifact",
    "Body",
    "DeadLetter",
    "Duration",
    "Event",
    "Fork",
    "ForkFromItem",
    "Id",
    "InputSpec",
    "Manifest",
    "Mistake",
    "ModelInfo",
    "NodeRecord",
    "NodeType",
    "Outcome",
    "PastAttempt",
    "Port",
    "Problem",
    "Question",
    "RetryPolicy",
    "Run",
    "Submission",
    "Task",
    "TaskNode",
    "Timeouts",
    "Workflow",
    "WorkflowIdentity",
    "WorkflowNode",
]
