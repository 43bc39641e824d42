"""The public names, one a line: `from .home import Name as Name`. Each is loaded when it is first used."""

from .countdown import CountdownSettings as CountdownSettings
from .countdown import CountdownTask as CountdownTask
from .equations import EquationsSettings as EquationsSettings
from .equations import EquationsTask as EquationsTask
from .jsonl import JsonlSettings as JsonlSettings
from .jsonl import JsonlTask as JsonlTask
from .naming import open_task as open_task
from .naming import task_settings as task_settings
from .problem import Problem as Problem
from .problem import Split as Split
from .problem import Task as Task
from .registry import TASKS as TASKS
from .registry import TaskSettings as TaskSettings
from .registry import as_task as as_task
from .validate import ValidationReport as ValidationReport
from .validate import validate_problems as validate_problems
from .validate import validate_task as validate_task
