"""Asks servers: HTTP, HTTPS, FTP, by the standard library alone."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from sappers.provisioner.modules import step
from sappers.provisioner.remote.contents import Contents

CHUNK_BYTES = 256 * 1024
# What is for one server is not told to another that it names; any header may be a secret but these.
_HARMLESS_HEADERS = ("Accept", "Accept-encoding", "Accept-language", "Range", "User-agent")
_PORTS = {"http": 80, "https": 443}


def ask(one: step.Request, contents: Contents) -> step.Response:
    """What a server answers; its content is kept for the task."""
    # Only tasks that ask servers wait for these to load.
    import http.client
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(  # noqa: S310 — the playbook says which
            one.url, one.body, dict(one.headers), method=one.method.upper()
        )
        if one.login and one.login_at_once:
            pair = ":".join(one.login).encode()
            request.add_header("Authorization", "Basic " + base64.b64encode(pair).decode())
        try:
            answer = _opener(one).open(request, timeout=one.timeout_seconds)
            reason = "OK (%s bytes)" % answer.headers.get("Content-Length", "unknown")
        except urllib.error.HTTPError as error:
            answer, reason = error, str(error)
        with answer:
            blob, md5 = contents.keep(_read(answer), one.folder)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return step.Response(-1, f"Request failed: {error}", one.url)
    status = getattr(answer, "status", None) or 200  # files and FTP have none
    headers = tuple(answer.headers.items())
    return step.Response(status, reason, answer.geturl(), headers, blob, md5)


def _read(answer: Any) -> Iterator[bytes]:
    while True:
        chunk = answer.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _opener(one: step.Request) -> Any:
    import ssl
    import urllib.request

    context = ssl.create_default_context(cafile=one.ca_path)
    if not one.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if one.client_cert:
        context.load_cert_chain(one.client_cert, one.client_key)
    handlers: list[Any] = [
        urllib.request.HTTPSHandler(context=context),
        _redirects(one.follow),
    ]
    if not one.proxies:
        handlers.append(urllib.request.ProxyHandler({}))
    if one.login and not one.login_at_once:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, one.url, *one.login)
        handlers += [
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPDigestAuthHandler(passwords),
        ]
    return urllib.request.build_opener(*handlers)


def _redirects(follow: str) -> Any:
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(
            self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> Any:
            if follow == "none" or (follow == "safe" and req.get_method() not in ("GET", "HEAD")):
                return None
            made = super().redirect_request(req, fp, code, msg, headers, newurl)
            if made is not None and not may_be_told(req.full_url, newurl):
                for name in [*made.headers, *made.unredirected_hdrs]:
                    if name not in _HARMLESS_HEADERS:
                        made.remove_header(name)
            return made

    return Redirects()


def may_be_told(asked: str, named: str) -> bool:
    """Whether an address that a server names is its own: then it is sent all headers again.

    From HTTP to HTTPS it may lead, never back.
    """
    from urllib.parse import urlsplit

    before, after = urlsplit(asked), urlsplit(named)
    places = [
        (one.scheme, one.hostname, one.port or _PORTS.get(one.scheme)) for one in (before, after)
    ]
    upgraded = [("http", before.hostname, 80), ("https", before.hostname, 443)]
    return places[0] == places[1] or places == upgraded
