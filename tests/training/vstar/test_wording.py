"""The generator and the verifiers of V-STaR read problems exactly as the policy was asked."""

from dataclasses import replace
from typing import Any

import pytest
from small_models import small_chat_model

from selfcorrect.agents.policies.rendering import choose_template
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import PLAIN
from selfcorrect.agents.state import Message
from selfcorrect.errors import CheckerError
from selfcorrect.rewards.verifiers.encoding import ResponseEncoder, Wording
