"""The public names, one a line: `from .home import Name as Name`. Each is loaded when it is first used."""

from .countdown import CountdownTask as CountdownTask
from .equations import EquationsTask as EquationsTask
from .jsonl import JsonlTask as JsonlTask
from .problem import Problem as Problem
from .problem import Split as Split
from .problem import Task as Task
from .validate import ValidationReport as ValidationReport
from .validate import validate_problems as validate_problems
from .validate import validate_task as validate_task
