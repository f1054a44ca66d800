"""The question proper, without what is said before and behind it."""

import re

__all__ = ["question_proper"]

_MARK = re.compile(r"<image[ _]?\d*>")


_ASIDE = re.compile(r" \((?:highlighted|marked|outlined|shown|circled|enclosed|in (?:the |a )?\w+ box)[^()]*\)")


_REQUEST = re.compile(
    r"(?:please |kindly )?(?:select|choose|pick|answer|estimate|respond|think|reply|give|options?|note|hint)\b", re.I
)


_LEAD = re.compile(
    r"(?P<lead>(?:in|on|at|after|before|when|while|during|from|if|according|based|considering|judging|given|looking|"
    r"with|for|refer|referring|relative|compared|among|of)\b[^?]*?), (?P<core>(?:(?:in|on|at|to|by|from|of) )?"
    r"(?:what|which|who|where|when|why|how|is|are|was|were|does|do|did|can|has|have|will|select|choose|determine|find|identify|calculate)\b.*)",
    re.I,
)


_BACKGROUND = re.compile(
    r"(?:according|based|considering|judging|given|looking|relative|compared|refer|referring)\b", re.I
)


def question_proper(question: str) -> tuple[str, str | None]:
    """Return what is said before the question proper, and the question without its question mark."""
    text = " ".join(_MARK.sub(" ", question).split())
    parts = re.findall(r".+?[.?!](?=\s|$)|.+$", text)
    while len(parts) > 1 and _REQUEST.match(parts[-1].strip()) and "?" not in parts[-1]:
        parts.pop()
    if any("?" in part for part in parts[:-1]):
        return "", None  # two questions
    core = _ASIDE.sub("", parts[-1].strip()) if parts else ""
    core = re.sub(r"^(?:complete the (?:sentence|statement)|fill in the blanks?)\W+", "", core, flags=re.I)
    core = re.sub(r"^((?:which|what|who)\b[^:]*): (?=.+ or )", r"\1, ", core, flags=re.I)
    if re.match(r"(?:which|what|who)\b.*: ", core, re.I):
        return "", None
    core = re.sub(r" ?\(\)", "", core)
    if not core or len(core) > 300 or "```" in core or re.search(r"\((?!\w+\))|[\[\]\"“;]|\?.", core):
        return "", None
    core = core if not core.endswith(".") else core.rstrip(" .")
    core = re.sub(r"^(what|who|where|how|when)'s ", r"\1 is ", core.rstrip(" ?"), flags=re.I)
    core = re.sub(r"^(?:so|and|now|then|please),? ", "", core, flags=re.I)
    if found := _LEAD.fullmatch(core):
        return "" if _BACKGROUND.match(found["lead"]) else found["lead"], found["core"]
    return "", core
