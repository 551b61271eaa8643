"""Patterns over topics, with the rules of the server (docs/PROTOCOL.md, "Words")."""

import unicodedata
from collections.abc import Iterable

# Longest topic or pattern in bytes, as in the server.
TOPIC_BYTES_MAX = 256


def check_pattern(text: str) -> "str | None":
    """Says why `text` is no pattern, or None if it is one."""
    if text == "":
        return "expected a topic or a pattern, found an empty text"
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > TOPIC_BYTES_MAX:
        return f"expected at most {TOPIC_BYTES_MAX} bytes, found {size}"
    if any(char == "," or char.isspace() or unicodedata.category(char) in ("Cc", "Cs") for char in text):
        return f"expected no white space, control character or comma, found one in `{text!a}`"
    tokens = text.split(".")
    if "" in tokens:
        return f"expected tokens separated by single dots, found an empty token in `{text}`"
    if any(">" in token and (token != ">" or i < len(tokens) - 1) for i, token in enumerate(tokens)):
        return f"expected `>` only as the whole last token, found `{text}`; write `prefix.>` for all below prefix"
    return None


def matches(pattern: str, topic: str) -> bool:
    """Whether a valid pattern matches a topic: `*` matches inside one token, a last token `>` one or more tokens."""
    if pattern in (topic, ">"):
        return True
    if "*" not in pattern and not pattern.endswith(">"):
        return False
    parts, tokens = pattern.split("."), topic.split(".")
    for i, part in enumerate(parts):
        if i >= len(tokens):
            return False
        if part == ">" and i == len(parts) - 1:
            return True
        if not _token_matches(part, tokens[i]):
            return False
    return len(parts) == len(tokens)


def covers(patterns: Iterable[str], topic: str) -> bool:
    """Whether one of the patterns matches."""
    return any(matches(pattern, topic) for pattern in patterns)


def _token_matches(pattern: str, token: str) -> bool:
    """Glob inside one token, greedy with one point of return: at most the product of the lengths."""
    if pattern in ("*", token):
        return True
    p, t, star, begun = 0, 0, -1, 0
    while t < len(token):
        if p < len(pattern) and pattern[p] == "*":
            star, begun = p, t
            p += 1
        elif p < len(pattern) and pattern[p] == token[t]:
            p, t = p + 1, t + 1
        elif star >= 0:
            begun += 1
            p, t = star + 1, begun
        else:
            return False
    return all(char == "*" for char in pattern[p:])
