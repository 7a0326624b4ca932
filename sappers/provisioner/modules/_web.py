"""What modules that ask servers have in common."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from sappers.provisioner.modules import step
from sappers.provisioner.modules.spec import Argument

ARGUMENTS = (
    Argument("headers", "dict", "Headers to send.", default={}),
    Argument("http_agent", "str", "What we say that we are.", default="ansible-httpget"),
    Argument("url_username", "str", "User for Basic or Digest.", aliases=("user", "username")),
    Argument("url_password", "str", "Password.", aliases=("password",)),
    Argument("force_basic_auth", "bool", "Send them before being asked.", default=False),
    Argument("validate_certs", "bool", "The certificate has to be right.", default=True),
    Argument("ca_path", "path", "Certificates to trust, in PEM."),
    Argument("client_cert", "path", "A certificate to show, in PEM."),
    Argument("client_key", "path", "Its key."),
    Argument("use_proxy", "bool", "As `http_proxy` and the like say.", default=True),
    Argument("decompress", "bool", "Accepted: nothing compressed is asked for.", default=True),
    Argument("use_netrc", "bool", "Accepted: ~/.netrc is not read.", default=True),
)
UNSUPPORTED = (
    ("ciphers", "those of the host are used"),
    ("use_gssapi", "use command: curl --negotiate"),
    (
        "unredirected_headers",
        "another server is sent nothing but Accept and its like; leave it out",
    ),
    ("unix_socket", "use command: curl --unix-socket"),
)


def request(args: Dict[str, Any], url: str, **more: Any) -> step.Request:
    """A request as the arguments say."""
    headers: List[Tuple[str, str]] = [
        ("User-Agent", args["http_agent"]),
        *((str(name), str(value)) for name, value in (args["headers"] or {}).items()),
        *more.pop("headers", ()),
    ]
    login = None
    if args["url_username"] is not None:
        login = (args["url_username"], args["url_password"] or "")
    return step.Request(
        url, headers=tuple(headers), timeout_seconds=float(args["timeout"]), login=login,
        login_at_once=args["force_basic_auth"], verify=args["validate_certs"],
        ca_path=args["ca_path"], client_cert=args["client_cert"], client_key=args["client_key"],
        proxies=args["use_proxy"], **more,
    )  # fmt: skip


def file_name(answer: step.Response, otherwise: str) -> str:
    """The name that a server gives a file, else the last part of its address; never a path."""
    for name, value in answer.headers:
        if name.lower() == "content-disposition":
            for part in value.split(";"):
                key, _, given = part.strip().partition("=")
                if key.lower() == "filename":
                    last = given.strip("\"' ").replace("\\", "/").rpartition("/")[2]
                    if last not in ("", ".", ".."):
                        return last
    last = answer.url.partition("?")[0].partition("#")[0].rpartition("/")[2]
    return last if last not in ("", ".", "..") else otherwise


def http_date(seconds: float) -> str:
    """A moment as HTTP writes it."""
    from email.utils import formatdate

    return formatdate(seconds, usegmt=True)
