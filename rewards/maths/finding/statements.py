"""Sentences that state an answer, in ten languages: "the answer is ...", "#### ...", 答案是, Ответ:, Antwort:."""

import re

from selfcorrect.rewards.maths.finding.bounds import is_asked
from selfcorrect.rewards.maths.finding.boxes import BOX, FORMULA, hedged_after, is_value
from selfcorrect.rewards.maths.finding.prose import last_bold, last_number_in_words, last_value, value_of_sentence
from selfcorrect.rewards.maths.text import MAX_ANSWER

# What announces an answer: a noun, and what links it to the answer.


def _either(words: str) -> str:
    """A pattern of any of these, written with a comma between them; the longest first."""
    return "|".join(sorted((re.escape(word.strip()) for word in words.split(",")), key=len, reverse=True))


_WORD_START, _WORD_END = r"(?<![^\W\d_])", r"(?![^\W\d_])"
_NOUNS = _either(
    "answer,result,ans,correct option,correct choice,final result,final value,final total,final count,"
    "ответ,ответом,результат,antwort,ergebnis,endergebnis,resultat,lösung,respuesta,resultado,solución,réponse,"
    "résultat,"
    "risposta,risultato,resposta"
)
_NOUNS_WITHOUT_SPACES = _either(
    "最终答案,最后答案,答案,最终结果,最后结果,结果,得数,答え,解答,正解,答,최종 답,정답,답,결과"
)
_LINKS = _either(
    "is,are,was,becomes,equals,should be,must be,would be,will be,comes out to be,comes out as,turns out to be,works "
    "out to,"
    "равен,равна,равно,равняется,составляет,будет,это,lautet,ist,beträgt,wäre,es,es igual a,est,est égal à,est égale "
    "à,vaut,è,é"
)
_LINKS_WITHOUT_SPACES = _either("应该是,应为,等于,是,为,為,は,が,은,는,이,가")
_BEHIND_NOUNS = _either("final,finale,correcta,correcte,definitiva,endgültige")
_FILLERS = _either(
    "actually,therefore,thus,simply,just,now,then,clearly,obviously,exactly,indeed,approximately,about,equal to,given "
    "by,"
    "also,somit,daher,demnach,dann,genau,entonces,por tanto,por lo tanto,exactamente,donc,alors,exactement,quindi,"
    "portanto,ровно"
)
_SIGNS = r"[:=→]|[-–—]\s|\n"
_STATEMENT = re.compile(
    rf"(?:####\s*|<answer>\s*"
    rf"|{_WORD_START}(?:{_NOUNS}){_WORD_END}(?:\s+(?:to|for|of)\s+[^.\n:$=]{{1,60}}?)?"
    rf"\s*(?:\*\*)?\s*(?:(?:{_BEHIND_NOUNS}){_WORD_END})?\s*(?:(?:{_LINKS}){_WORD_END}(?:\s*:)?|{_SIGNS})"
    rf"|(?<![가-힣])(?:{_NOUNS_WITHOUT_SPACES})\s*(?:\*\*)?\s*(?:{_LINKS_WITHOUT_SPACES}|{_SIGNS})\s*:?)"
    rf"\s*(?:\*\*)?\s*(?:(?:{_FILLERS}){_WORD_END}\s*,?\s*)*:?",
    re.IGNORECASE,
)
_DOUBT = r"(?<!no )(?<!a )(?<!without )doubt"
_ABOUT_ANOTHER = re.compile(
    rf"(?:\b(?:check|verif|confirm|test|{_DOUBT}|wrong|incorrect|previous|first|initial|earlier|old|impossible"
    r"|unlikely|false|den(?:y|ies))\w*|\bnot|n't)\s+"
    r"(?:(?:think|believe|say|claim|mean|agree|see|sure|certain|why|how)\s+){0,2}(?:(?:that|if|whether)\s+)?"
    r"(?:(?:our|the|this|my|that|your|a|an)\s+)?(?:(?:final|correct|right|overall)\s+)?$",
    re.IGNORECASE,
)
"""Before "answer is": it speaks of checking one, or of one given up."""
SENTENCE_END = re.compile(
    r"(?<![\d\\])!(?=\s|$|\*|[^\x00-\x7f])|[.?](?=\s|$|\*|[\"')]|[^\x00-\x7f])|\n|</answer>|<\||\bI hope\b|(?<!\\);\s"
    r"|,\s+(?:which|so|because|since|as|where|not|but|wait)\b"
    r"|\s+(?:because|since|but wait|wait|weil|porque|car|parce que|потому что|так как)\b"
)
_POLITE = re.compile(
    r"\s*(?:です|である|だ|となります|になります|입니다|이다|예요|이에요|이 됩니다|가 됩니다|이 된다)\s*[.!]*\s*$"
)

# What takes a value back: "the answer is not 42".

_CLAUSES = re.compile(
    r"[,;](?=\s|[^\x00-\x7f])|[()]|\b(?:(?<!anything )but|which|it'?s(?!\s+not)|sondern|sino|mais|ma|mas)\b|而是"
    r"|(?<!\w)(?:а|но)(?!\w)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not(?! (?:less|fewer|smaller|lower|more|greater|larger|higher) than)|never|isn'?t|aren'?t|wasn'?t"
    r"|cannot|can'?t|neither|nor|rather than|instead of|unlike|anything but"
    rf"|no longer|by no means|unlikely that|impossible that|{_DOUBT}"
    r"|(?:don'?t|doesn'?t) (?:think|believe|seem|look)|nicht(?! (?:mehr|weniger) als)|kein\w*"
    r"|nunca|jamais|non è|não)\b|\bn'est pas\b|\bno (?:es|son|puede)\b"
    r"|不是|不等于|并非|不为|ではな|ではあり|じゃな|아니|아닙|(?<!\w)не(?!\w)(?! (?:менее|меньше|более|больше))",
    re.IGNORECASE,
)


_DENIABLE = re.compile(r"[\dπ∞]|\$(?=[\w(\\{-])(?!\\text)|\b[A-J]\b")


def affirmed(sentence: str) -> str:
    """`sentence` without the clauses that deny a value: "it is not 42 but 43" says 43."""
    if not _NEGATION.search(sentence):
        return sentence
    clauses: list[str] = []
    start = 0
    for cut in _CLAUSES.finditer(sentence):
        clauses.append(sentence[start : cut.start()])
        start = cut.end()
    kept = [one for one in [*clauses, sentence[start:]] if not (_NEGATION.search(one) and _DENIABLE.search(one))]
    if len(kept) == len(clauses) + 1:
        return sentence
    return ", ".join(kept)


def _not_denied(stated: str) -> str:
    """`stated` without its clauses that deny anything."""
    if not _NEGATION.search(stated):
        return stated
    return ", ".join(clause for clause in _CLAUSES.split(stated) if not _NEGATION.search(clause))


# Whether words are an answer, or talk about one.

_TAKEN_BACK = re.compile(r"\b(?:wait|actually|sorry|no|correction|rather|mistake|wrong|scratch)\b", re.IGNORECASE)
_MOST_WORDS = 6
_MATH_WORDS = frozenset(["and", "or", "sqrt", "pi", "sin", "cos", "tan", "log", "ln", "exp"])
_REMARK = re.compile(
    r"(?:(?:also|indeed|now|thus|therefore|absolutely|definitely|really|very|as|in fact)\s+)*(?:correct|right|helpful"
    r"|clear|wrong|incorrect|verified|confirmed|consistent|reasonable"
    r"|sensible|valid|final|accurate|good|useful|true|follows|below|above|shown|obvious|unique|found|what|easy"
    r"|simple)\b.*",
    re.IGNORECASE | re.DOTALL,
)
"""What is said of an answer instead of the answer."""


_SET_AS_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mbox)\s*\{[^{}]*\}")
_MONTH = (
    r"(?:jan|febr)uary|march|april|may|june|july|august|(?:septem|octo|novem|decem)ber"
    r"|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?"
)
_DATE = re.compile(
    rf"(?:{_MONTH})\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?|\d{{1,2}}\s+(?:{_MONTH})(?:\s+\d{{4}})?", re.IGNORECASE
)


def looks_like_answer(text: str, in_words: bool = True) -> bool:
    """Whether a short text is nothing but an answer: no sentence with a number in it, no taking back."""
    words = re.findall(r"(?<![\\a-zA-Z])[^\W\d_]{2,}", re.sub(r"\\(?:begin|end)\{\w+\}|\\[a-zA-Z]+", " ", text))
    wordy = [word for word in words if word.lower() not in _MATH_WORDS]
    if _SET_AS_TEXT.fullmatch(text.strip(" .")) or _DATE.fullmatch(text.strip(" .")):
        return True
    if _TAKEN_BACK.search(text) and any(character.isdigit() for character in text):
        return False
    first_digit = re.search(r"\d", text)
    if first_digit is None:
        return len(wordy) <= (_MOST_WORDS if in_words else 1)
    return len(wordy) <= 2 and not (wordy and text.index(wordy[0]) < first_digit.start())


def last_statement(text: str, after: int, *, in_words: bool) -> str | None:
    """The last "answer is ..." behind position `after` that says a value; "the answer is correct" does not.

    Where the reference is in words, words count as well, unless there is a box.
    """
    for match in reversed(list(_STATEMENT.finditer(text, max(after, 0)))[-10:]):
        if _ABOUT_ANOTHER.search(text[max(0, match.start() - 40) : match.start()]):
            continue
        stated = _stated(text[match.end() : match.end() + 2 * MAX_ANSWER])
        if not stated or BOX.search(stated) or _asked(text, match, stated):
            continue
        if not in_words and (words := last_number_in_words(_not_denied(stated), announced=True)):
            return words
        remark = _REMARK.fullmatch(stated) and value_of_sentence(stated) is None  # "verified by step 2"
        if (_says_a_value(stated) and not remark) or (in_words and after < 0 and not _REMARK.fullmatch(stated)):
            return stated
    return None


def _asked(text: str, announced: re.Match[str], stated: str) -> bool:
    """Whether a statement only asks: "is the answer 42?"."""
    value = text.find(stated, announced.end())
    return is_asked(text, announced.start(), announced.end() if value < 0 else value + len(stated))


_VALUE_WORDS = re.compile(
    r"[^\W\d_](?:\s*(?:,|\band\b|\bor\b)\s*[^\W\d_])*|pi|infinity|zero|∞|π|∅|[a-z]\s*[-+*/^=<>].*|no (?:real "
    r")?solutions?|undefined|none",
    re.IGNORECASE,
)


def _says_a_value(stated: str) -> bool:
    return is_value(stated) or bool(FORMULA.search(stated) or _VALUE_WORDS.fullmatch(stated.strip(" .()'\"")))


_INSTEAD = re.compile(r"\**[.;,]\s*(?:but\s+|rather\s+)?(?:it\s+is|it'?s|it\s+should\s+be)\s+(?!not\b)", re.IGNORECASE)
"""After "the answer is not 42": what it is instead."""


def _stated(text: str) -> str:
    """The stated answer at the beginning of `text`, up to the end of its sentence."""
    text = text.lstrip(" \t\r\n*:")
    formula = FORMULA.match(text)
    end = formula.end() if formula else 0
    stop = SENTENCE_END.search(text, end)
    whole = text[: stop.start() if stop else len(text)]
    stated = _POLITE.sub("", affirmed(whole))
    if stop and not stated.strip(" *_`,.") and (instead := _INSTEAD.match(text, stop.start())):
        return _stated(text[instead.end() :])
    if formula and not re.match(r"\s*(?:,|and\b|or\b|%|\\%|\w+(?:\s+per\s+\w+|\^\d)?\s*$)", stated[end:]):
        stated = stated[:end]
    if (
        bold := last_bold(
            f"**{stated}" if stated.endswith("**") and stated.count("**") == 1 else stated, in_words=False
        )
    ) is not None:
        stated = bold
    stated = stated.strip(" \t*_`")
    if not looks_like_answer(stated) and (value := value_of_sentence(stated)) is not None:
        stated = value  # "the answer is that n is 34"
    return stated + (hedged_after(text, stop.start()) if stop is not None else "")


# Sentences that conclude without the word "answer".

_CONCLUDES = re.compile(
    r"\b(?:so|thus|hence|therefore|consequently|in total|altogether|in all|finally|total|overall|we (?:get|obtain"
    r"|find|have)|also|somit|daher|folglich|insgesamt"
    r"|por lo tanto|por tanto|así que|entonces|en total|donc|ainsi|au total|par conséquent|quindi|dunque|portanto"
    r"|logo)\b"
    r"|所以|因此|综上|从而|一共|总共|故|よって|したがって|ゆえに|つまり|合計|따라서|그러므로|총"
    r"|(?<!\w)(?:итак|значит|следовательно|поэтому|таким образом"
    r"|всего|итого)(?!\w)",
    re.IGNORECASE,
)
_EQUATES = re.compile(r"[=≈→]\s*\**\s*[$€£]?\s*\\?[^=≈→]*$|\\boxed")


def concludes(sentence: str) -> bool:
    """Whether a sentence says its value as a result: "so she has 18", "15 + 27 = 42"."""
    if _CONCLUDES.search(sentence):
        return True
    found = _EQUATES.search(sentence)
    return found is not None and last_value(found[0]) is not None
