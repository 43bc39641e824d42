"""What a response says without saying that it is the answer: a bound ("at least 56"), a question ("is it 56?").

A bound names the answer where the question asks for a least or a greatest value: then "at least 56 tiles are needed"
says 56. Elsewhere it is no value. A question asserts nothing, unless it is answered with yes.
"""

import re

# Bounds, in ten languages.

_LOWER_WORDS = (
    r"at (?:the )?(?:very )?least|not? (?:less|fewer|smaller|lower) than|mindestens|wenigstens|nicht weniger als"
    r"|al menos|por lo menos|como mínimo|(?:tout )?au moins|au minimum|almeno|come minimo|pelo menos|no mínimo"
    r"|не менее|не меньше|как минимум"
    r"|至少|最少|不少于|不小于|少なくとも|最低|적어도|최소"
)
_UPPER_WORDS = (
    r"at (?:the )?(?:very )?most|not? (?:more|greater|larger|higher) than|höchstens|maximal|nicht mehr als"
    r"|a lo sumo|como máximo|(?:tout )?au plus|au maximum|al massimo|al più|no máximo"
    r"|не более|не больше|как максимум|至多|最多|不大于|多くとも|最大で|많아야|최대"
)
_UP_TO = r"(?:^|(?<=\bis )|(?<=\bare )|(?<=\bbe ))up to"
"""What adds up to 56, or is rounded up to it, is 56."""
_BOUND_BEFORE = re.compile(rf"(?<![a-zA-Zа-я])(?:{_LOWER_WORDS}|{_UPPER_WORDS}|{_UP_TO})[\s*]*$", re.IGNORECASE)
_BOUND = rf"(?P<lower>{_LOWER_WORDS})|(?P<upper>{_UPPER_WORDS}|up to)"
_BOUND_ANYWHERE = re.compile(_BOUND, re.IGNORECASE)
_CALLED_ANSWER = re.compile(
    r"\b(?:answer|result|ans|antwort|ergebnis|respuesta|resultado|réponse|résultat|risposta|resposta)\b|\*\*|<|#|boxed"
    r"|ответ|答|结果|답|결과",
    re.IGNORECASE,
)
_BOUND_FIRST = re.compile(
    rf"\s*(?:\\(?:text|mbox|textbf|mathrm)\s*\{{)?\s*(?:{_BOUND})(?![a-zа-я])\s*\}}?(?:\\[ ,;]|[\s~])*", re.IGNORECASE
)
_ASKS_FOR_LEAST = re.compile(
    r"(?<!at )(?<!at the )\bleast\b|\bmin(?:im(?:um|al|i[sz]\w*))?\b|\b(?:small|few|low|short|cheap|earli)est\b"
    r"|\b(?:need|require|necess|guarant|ensure|assure)\w*|\b(?:must|enough|ha(?:s|ve|d) to)\b"
    r"|mindestens|wenigstens|kleinst|minim|mínim|\bmenor|al menos|au moins|plus petit|almeno|più piccol|pelo menos"
    r"|brauch|benötig|\bmuss|necesit|\bfaut\b|besoin|bisogn|precis|наименьш|минимал|не менее|необходим|нужно"
    r"|至少|最少|最小|需要|少なくとも|必要|적어도|최소|필요",
    re.IGNORECASE,
)
_ASKS_FOR_MOST = re.compile(
    r"(?<!at )(?<!at the )\bmost\b|\bmax(?:im(?:um|al|i[sz]\w*))?\b|\b(?:larg|great|high|long|bigg|lat|farth)est\b"
    r"|\b(?:can|could|able|possible|possibly|afford|fits?|allow\w*|limit\w*|capacity)\b"
    r"|höchstens|größt|maxim|máxim|\bmayor|a lo sumo|au plus|plus grand|al massimo|più grand|\bmaior|\bkann|können"
    r"|puede|peut|peuvent|può|possono|pode|наибольш|максимал|не более|может|могут"
    r"|最多|至多|最大|可以|能|多くとも|많아야|최대|수 있",
    re.IGNORECASE,
)


def bound_before(before: str) -> str:
    """The words at the end of `before` that make a bound of the value that follows; "" if there are none."""
    found = _BOUND_BEFORE.search(before)
    return "" if found is None else found[0].strip(" *\t\n")


def without_bound(answer: str, question: str | None, response: str) -> str:
    """An answer without the bound that it begins with, if such a value is asked for; else the answer as it is.

    Args:
        answer: "at least 56 tiles".
        question: what was asked. Where it is not known, a bound counts in a sentence that tells of what it is one ("we
            need at least 56"), not as "the answer" and not alone.
        response: all of it.
    """
    found = _BOUND_FIRST.match(answer)
    if found is None:
        return answer
    asks = _ASKS_FOR_LEAST if found["lower"] else _ASKS_FOR_MOST
    is_wanted = asks.search(question) if question is not None else _tells_of_what(response, found)
    if not is_wanted:
        return answer
    rest = answer[found.end() :]
    return rest.replace("}", "", 1) if found[0].count("{") > found[0].count("}") else rest  # \text{at least 56}


def _tells_of_what(response: str, bound: re.Match[str]) -> bool:
    """Whether the sentence of a bound says more than the bound, and does not call it the answer."""
    at = response.rfind(bound["lower"] or bound["upper"])
    begins = max((one.end() for one in _SENTENCE_ENDS.finditer(response, 0, max(0, at))), default=0)
    ends = _SENTENCE_ENDS.search(response, max(0, at))
    sentence = _BOUND_ANYWHERE.sub(" ", response[begins : ends.start() if ends else len(response)])
    return not _CALLED_ANSWER.search(sentence) and len(re.findall(r"(?<!\\)[^\W\d_]{2,}", sentence)) >= 2


# Questions.

_LONGEST_BEGINNING = 400
_SENTENCE_ENDS = re.compile(r"[.!?](?=[\s*_\"')\]}$]|$|[^\x00-\x7f])|[？。！\n]|</")
_ASKING = re.compile(
    r"[\W_]*(?:(?:so|or|and|but|then|hmm|well|wait|now)\W+)*(?:is|are|was|were|isn'?t|could|can|would|should|might|may"
    r"|does|do|did|will|what|which|how|why|whether)\b",
    re.IGNORECASE,
)
_TAG = re.compile(
    r",\s*(?:right|correct|yes|no|ok(?:ay)?|(?:is|are)n'?t (?:it|they)|is (?:it|that)|don'?t you|oder|nicht wahr|verdad"
    r"|n'est-ce pas|vero|não é|да|правильно)\W*$",
    re.IGNORECASE,
)
_YES = re.compile(
    r"[\W_]*(?:yes|yep|yeah|indeed|correct|right|exactly|sure|absolutely|certainly|of course|it is|ja|jawohl|oui|sí|sì"
    r"|sim|да|верно|是的?|对|對|はい|네|예)(?![^\W_])",
    re.IGNORECASE,
)


def asked_in(sentence: str, following: str) -> bool:
    """Whether a whole sentence asks, and what follows it does not say yes."""
    return sentence.rstrip(" \t\n*_\"')]}$").endswith(("?", "？")) and not _YES.match(following)


def is_asked(text: str, start: int, end: int) -> bool:
    """Whether the value that stands from `start` to `end` is asked, not said: the next thing behind it is a question
    mark, or it stands in a sentence that begins like a question and ends so."""
    stop = _SENTENCE_ENDS.search(text, end)
    if stop is None or stop[0] not in "?？" or _YES.match(text, stop.end()):
        return False
    behind = text[end : stop.start()]
    if not re.search(r"\w", behind) or _TAG.search(behind):
        return True
    window = max(0, start - _LONGEST_BEGINNING)
    begins = max((one.end() for one in _SENTENCE_ENDS.finditer(text, window, start)), default=window)
    return bool(_ASKING.match(text, begins))
