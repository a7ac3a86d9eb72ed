"""What a person would see of a text, in one line: no markup, nothing hidden, no character that gives orders.

Labels are stored under what it returns, so it must return the same everywhere (it does, up to characters that a
later Unicode adds); strangers write what it reads, so it must take linear time. Hence own code. Considered:
html.parser (what it takes for a tag differs between patch releases of Python, and 100 kB of ``<a `` took it 200 s
on 3.11.7), beautifulsoup4 (a tree, by default on top of html.parser), nh3 (made to sanitize for browsers: it keeps
what a style hides, and answers in HTML). It is no browser: what a style sheet, a colour or a position hides stays.
"""

from __future__ import annotations

import html
import re
import unicodedata

_BRACKETS = str.maketrans("<>", "\u2039\u203a")

# --- Characters ----------------------------------------------------------------------------------------------------
# Printable by Python's rule, yet drawn as nothing: joiners, fillers, variation selectors, which can carry a message.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# Unicode's stream-safe text (UAX 15): sorting one long run of marks is quadratic, and no language needs 30 of them.
_MOST_MARKS = 30
_PERHAPS_MARKS = re.compile(f"[^\x00-\u02ff]{{{_MOST_MARKS + 1}}}")
_LATER_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"  # no marks by their class, but NFKC turns them into such

# --- Markup --------------------------------------------------------------------------------------------------------
_ROUNDS = 4  # text that was escaped or nested more often loses the characters that markup is made of
_LEFT_OVER = str.maketrans("", "", "&[`")
_MAY_BE_MARKUP = re.compile("[<&[]|```")
_ENTITY = re.compile("&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)
_LINK = re.compile(r'!?\[([^][]*)]\((?:[a-z][a-z0-9+.-]*:|/|#|www\.)[^()\s]*(?:\s+"[^"()]*")?\s*\)', re.IGNORECASE)
_FENCE = re.compile("`{3,}")
_CHAT_TOKEN = re.compile(
    r"""
    <\|[^<>|]{1,64}\|> | <</?sys>> | \[/?(?:inst|system_prompt|available_tools|tool_calls|tool_results)]
    | </?(?:s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|start_of_image|think|tool_call|tool_response)>
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Possessive (*+): where there is no tag, nothing is tried twice.
_TAG = re.compile(
    r"""
    <!--(?:-?>|.*?(?:--!?>|\Z)) | <!\[CDATA\[ | ]]> | <[!?][^<>]*>
    | <(?P<end>/?)(?P<name>[a-z][a-z0-9:-]*+)(?=[\s/>])(?P<attributes>(?:"[^"]*+"|'[^']*+'|[^"'<>])*+)>
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|(?:font-size|opacity)\s*:\s*0+(?:\.0*)?(?![.\d])",
    re.IGNORECASE,
)
# Tags that leave no gap: "<b>P</b>ython" is one word, "<li>a</li><li>b</li>" are two.
_INLINE = frozenset(
    """
    a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd mark nobr q s samp small span strike strong
    sub sup tt u var wbr
    """.split()  # noqa: SIM905
)
# No other name is a tag: List<String>, <your name> and <system> are text.
_TAGS = _INLINE | frozenset(
    """
    address area article aside audio base blockquote body br button canvas caption center col colgroup data
    datalist dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3
    h4 h5 h6 head header hgroup hr html iframe img input label legend li link main map marquee menu meta meter nav
    noscript object ol optgroup option output p param picture pre progress rp rt ruby script search section select
    slot source style summary svg table tbody td template textarea tfoot th thead time title tr track ul video
    """.split()  # noqa: SIM905
)
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "frame", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_NEVER_SHOWN = frozenset({"head", "iframe", "noscript", "script", "style", "svg", "template"})
_RAW = frozenset({"script", "style"})  # hold no tags: the first end tag ends them


def plain(text: str) -> str:
    """One line of visible characters without angle brackets; cleaning it again changes nothing.

    Entities are resolved; comments, hidden elements, tags, link targets, code fences and the control tokens of
    chat templates go. "C++ <3 years" and "a < b" stay, with other brackets.
    """
    text = _visible(text)
    for _ in range(_ROUNDS):
        if not _MAY_BE_MARKUP.search(text):
            return text.translate(_BRACKETS)
        cleaned = _visible(_without_markup(text)).translate(_BRACKETS)
        if cleaned == text:
            return text
        text = cleaned
    return _visible(text.translate(_LEFT_OVER)).translate(_BRACKETS)


def _visible(text: str) -> str:
    """NFKC comes first: it turns look-alikes, such as a full-width bracket, into what is looked for later."""
    text = _normal(" ".join(text.split()))
    if not text.isprintable() or (not text.isascii() and _INVISIBLE.search(text)):
        # Control, zero-width, bidirectional, private, unassigned.
        text = _normal("".join(c for c in _INVISIBLE.sub("", text) if c.isprintable()))
    return " ".join(text.split())


def _normal(text: str) -> str:
    return text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", _stream_safe(text))


def _stream_safe(text: str) -> str:
    if not _PERHAPS_MARKS.search(text):
        return text
    kept, run = [], 0
    for c in text:
        run = run + 1 if unicodedata.combining(c) or c in _LATER_MARKS else 0
        if run <= _MOST_MARKS:
            kept.append(c)
    return "".join(kept)


def _without_markup(text: str) -> str:
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    text = _without_tags(_CHAT_TOKEN.sub(" ", text))
    return _FENCE.sub(" ", _LINK.sub(r"\1", text))


def _without_tags(text: str) -> str:
    """An element that hides itself and is never closed hides the rest."""
    shown: list[str] = []
    at, hidden, depth = 0, "", 0
    for tag in _TAG.finditer(text):
        name = (tag["name"] or "").lower()
        if name and name not in _TAGS and ":" not in name:
            continue
        if not hidden:
            shown.append(text[at : tag.start()])
            if name and not tag["end"] and name not in _VOID and _is_hidden(name, tag["attributes"]):
                hidden, depth = name, 1
            elif name and name not in _INLINE:
                shown.append(" ")
        elif name == hidden:
            depth += -1 if tag["end"] else name not in _RAW
            hidden = hidden if depth else ""
        at = tag.end()
    if not hidden:
        shown.append(text[at:])
    return "".join(shown)


def _is_hidden(name: str, attributes: str) -> bool:
    return name in _NEVER_SHOWN or any(
        key.lower() == "hidden" or (key.lower() == "style" and _HIDING.search(value))
        for key, value in _ATTRIBUTE.findall(attributes)
    )
