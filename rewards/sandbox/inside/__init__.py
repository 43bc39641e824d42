"""What runs in jailed children. The standard library only, and nothing here may import what lies outside this folder
but framing.

- `candidate.py`: the side of the program under judgement. All it says is untrusted.
- `tester.py`: the side of the tests. It alone reports to the parent.
- `together.py`: both in one process, where the user allows it.
- `script.py`: whole programs, judged by what they print.
- `values.py`, `array_values.py`: how plain data crosses between the two.
- `session.py`: the tests' end of the connection. `proxies.py`: what they hold in place of the program's objects;
  `objects_of_tests.py`: the other way round. `mirrors.py`: patches, seeds, input and output, carried over.
- `suite.py`: tests made ready to run; `foresight.py`: what is known of them before that.
- `frameworks.py`: those of unittest, pytest and doctest.
"""

REHEARSALS = 10
"""Of a whole check, before any fork. Python adapts code that it has run a few times: what every child would do again,
on pages of its own."""
