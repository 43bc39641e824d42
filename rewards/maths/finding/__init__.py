"""Which part of a response is its answer: boxes, statements, and values in running text.

`extraction` decides which of them counts; `statements` knows the sentences that announce an answer, `prose` what
belongs to a number in a sentence, `boxes` what LaTeX sets apart.
"""
