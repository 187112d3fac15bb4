"""Secrets in text: recognised by their form, and hidden.

Pure functions of text.  A URL carries secrets as user information (``user:password@``) or as values
of a query (``?sig=...``); what libraries print of requests and settings carries them by name.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

__all__ = ["HIDDEN", "credential_in", "one_line", "redacted", "redacted_values"]

HIDDEN = "***"
"""What stands for a secret."""

_PATHS = {"file", "github", "libarchive", "local", "memory", "reference", "tar", "zip"}
"""Schemes without user information: what stands there is a part of a path."""
_NAMES = {"abfs", "abfss", "hdfs", "rsync", "scp", "sftp", "ssh", "wasb", "wasbs", "webhdfs"}
"""Schemes where a name alone before the ``@`` is no secret: a login, or a container."""
_BUCKETS = {
    "abfs",
    "abfss",
    "adl",
    "az",
    "gcs",
    "gs",
    "oss",
    "r2",
    "s3",
    "s3a",
    "s3n",
    "wasb",
    "wasbs",
}
"""Schemes that name a bucket and no host: what looks like a port is none."""

# Every repetition has a limit, so that the time grows with the length of a text and not its square.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}$", re.I)
_CHAIN = re.compile(r"::[a-z][a-z0-9+.-]{0,20}://", re.I)
_REST = re.compile(r'[^\s"<>]{0,4096}')
_WORD = re.compile(r'[^\s"<>]+')
_SECRET_NAME = (
    r"(?:x-(?:amz|goog)-)?(?:sig|key|pass|pwd|pw|auth|sas|jwt|code|authorization)"
    r"|[\w.-]{0,40}[._-]key"
    r"|[\w.-]{0,40}(?:token|secret|passw(?:or)?d|signature|credential"
    r"|(?:api|access|account|private|shared|session)[._-]?key)[\w.-]{0,40}"
)
"""Names of what a query keeps secret.  Of the parameters of a SAS only ``sig`` is."""
_QUERY = re.compile(rf"""([?&;#])({_SECRET_NAME})=([^\s"<>&#;]+)""", re.I)

_SETTING = (
    r"(?:passw(?:or)?d|secret"
    r"|(?:api|access|account|client|master|private|secret|shared|subscription)[_-]?key(?:[_-]?id)?"
    r"|(?:access|auth|bearer|refresh|sas|security|session)[_-]?token)"
)
# A parser says "unexpected token: '}'": only a token in quotes, or one assigned, may be secret.
_QUOTED = re.compile(
    rf"""((?:{_SETTING}["']?\s{{0,9}}[:=]|["']token["']\s{{0,9}}:|\btoken\s{{0,9}}=)"""
    r"""\s{0,9}(?:Some\(\s{0,40})?b?)(["'])((?:(?!\2).)+)\2""",
    re.I,
)
_ASSIGNED = re.compile(rf"""((?:{_SETTING}|\btoken)=)([^\s,;&"'<>)]+)""", re.I)
_SPOKEN = re.compile(
    rf"""((?:{_SETTING}|\b(?:pwd|passphrase|(?:api|access|account|secret)\s?key))"""
    r"""\s{0,9}:(?!//)\s{0,9}"""
    r"""|\bbearer\s{1,9}(?=[\w.~+/=%-]{12}))([^\s,;&"'<>)]+)""",
    re.I,
)
_HEADER = re.compile(
    r"""((?:authorization["']?\s{0,9}[:=]\s{0,9}(?:b?["'])?"""
    r"""(?:(?:aws4-hmac-sha256|basic|bearer|digest)\s{1,9})?"""
    r"""|x-amz-(?:security-token|credential)["']?\s{0,9}[:=]\s{0,9}(?:b?["'])?))([^\s"',;<>]+)""",
    re.I,
)
_ELEMENT = re.compile(
    r"(<((?:AWS)?AccessKeyId|SecretAccessKey|SecurityToken|SessionToken)>)([^<]+)", re.I
)
_DECODINGS = 3
"""How often a URL may be encoded within another."""


def redacted(text: str) -> str:
    """Return a text with `HIDDEN` in place of every secret; other text stays as it is."""
    return _hide(text)[0]


def credential_in(text: str) -> str | None:
    """Return what kind of secret a text holds, in words; None if it holds none."""
    return next(iter(_hide(text)[1]), None)


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return what an error says in one line, cut only after its secrets are hidden."""
    try:
        text = str(error).partition("Debug source:")[0]  # what obstore adds, line upon line
    except Exception:  # noqa: BLE001 - anybody's error may fail to say what it is
        text = ""
    return " ".join(redacted(text).split())[:limit] or type(error).__name__


def redacted_values(value: Any) -> Any:
    """Return JSON values with the secrets in their texts hidden."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {redacted_values(k): redacted_values(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_values(v) for v in value]
    return value


def _hide(text: str) -> tuple[str, list[str]]:
    if "%" in text:
        text = _WORD.sub(lambda word: _decoded(word[0]), text)
    text, kinds = _without_users(text)

    def parameter(match: re.Match[str]) -> str:
        sign, name, value = match.groups()
        secret = value.rstrip(").,:]}'")
        if secret in ("", HIDDEN):
            return match[0]
        kinds.append(f"a value of {name!r}")
        return f"{sign}{name}={HIDDEN}{value[len(secret) :]}"

    def setting(match: re.Match[str]) -> str:
        if match[match.lastindex or 0] == HIDDEN:
            return match[0]
        kinds.append("a secret by its name")
        start, end = match.span(match.lastindex or 0)
        return match[0][: start - match.start()] + HIDDEN + match[0][end - match.start() :]

    text = _QUERY.sub(parameter, text)
    for pattern in (_QUOTED, _ASSIGNED, _HEADER, _SPOKEN, _ELEMENT):
        text = pattern.sub(setting, text)
    return text, kinds


def _decoded(word: str) -> str:
    """Return a word without percent-encoding if that is what hid a secret in it."""
    plain = word
    for _ in range(_DECODINGS if "%" in word else 0):
        before, plain = plain, unquote(plain)
        if plain == before:
            break
        if _in_url(plain) and not _in_url(before):
            return plain
    return word


def _in_url(text: str) -> bool:
    return next(_users(text), None) is not None or any(
        value != HIDDEN for *_, value in _QUERY.findall(text)
    )


def _without_users(text: str) -> tuple[str, list[str]]:
    """Return a text with the user information of its URLs hidden, and what was found."""
    parts: list[str] = []
    kinds: list[str] = []
    position = 0
    for start, end, kind in _users(text):
        if start >= position:
            parts += [text[position:start], HIDDEN]
            kinds.append(kind)
            position = end
    return "".join([*parts, text[position:]]), kinds


def _users(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where in a text secret user information begins and ends, and of what kind it is."""
    start = text.find("://")
    while start >= 0:
        before = _SCHEME.search(text[max(0, start - 21) : start])
        scheme = before[0].lower() if before else ""
        start += len("://")
        piece = _REST.match(text, start)
        assert piece is not None
        user, kind = _secret_user(scheme, piece[0])
        if kind:
            yield start, start + len(user), kind
        start = text.find("://", start)


def _secret_user(scheme: str, rest: str) -> tuple[str, str]:
    """Return the user information of a URL and its kind, empty if there is nothing secret."""
    chained = _CHAIN.search(rest)
    rest = rest[: chained.start()] if chained else rest
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, separator, _ = authority.rpartition("@")
    if not separator and _is_cut(scheme, authority):
        user, separator, _ = rest.rpartition("@")
    if not separator or user in ("", HIDDEN) or scheme in _PATHS:
        return "", ""
    if ":" in unquote(user):
        return user, "a user and a password"
    return user, "" if scheme in _NAMES else "user information"


def _is_cut(scheme: str, authority: str) -> bool:
    """Tell whether what looks like a port is none: a password with a slash in it, say."""
    host, separator, port = authority.partition(":")
    is_port = port.isdigit() and scheme not in _BUCKETS
    return bool(separator and host and port) and "[" not in host and not is_port
