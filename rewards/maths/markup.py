"""What LaTeX sets apart: boxes and formulas."""

import re

BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=[{\w-])")
EMPTY_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*\{[\s.$]*\}")
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\n\\])+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
