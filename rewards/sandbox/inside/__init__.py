"""What runs in jailed children. The standard library only, and nothing here may import what lies outside this folder
but framing.

- `candidate.py`: the side of the program under judgement. All it says is untrusted.
- `tester.py`: the side of the tests. It alone reports to the parent.
- `values.py`: how plain data crosses between the two.
"""
