"""Asks a web server."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Dict, List, Optional, Tuple

from sappers.provisioner.modules import _files, _web, step
from sappers.provisioner.modules.spec import FILE_ARGUMENTS, FILE_UNSUPPORTED, Argument, Module

SPEC = Module(
    "Ask a web server, and look at what it answers.",
    (
        Argument("url", "str", "The address.", required=True),
        Argument("method", "str", "GET, POST and the like.", default="GET"),
        Argument("body", "raw", "What is sent."),
        Argument("body_format", "str", "How a body that is no text becomes one.", default="raw",
                 choices=("form-urlencoded", "json", "raw")),
        Argument("src", "path", "A file whose content is sent."),
        Argument("remote_src", "bool", "`src` is on the host.", default=False),
        Argument("status_code", "list", "Codes that are no failure.", default=[200],
                 elements="int"),
        Argument("return_content", "bool", "The result has the content.", default=False),
        Argument("dest", "path", "A file for the content, or a folder for that."),
        Argument("follow_redirects", "str", "", default="safe",
                 choices=("all", "no", "none", "safe", "urllib2", "yes")),
        Argument("creates", "path", "Do nothing when there is something at this path."),
        Argument("removes", "path", "Do nothing when there is nothing at this path."),
        Argument("timeout", "int", "Seconds without an answer until it fails.", default=30),
        Argument("force", "bool", "Not from a cache on the way.", default=False),
        *_web.ARGUMENTS,
        *FILE_ARGUMENTS,
    ),
    outward=True,
    exclusive=(("body", "src"),),
    unsupported=(*_web.UNSUPPORTED, *FILE_UNSUPPORTED),
    returns=(
        ("status, msg, url", "what it answered, after redirects"), ("content", "the content"),
        ("json", "the content, where it is JSON"), ("redirected", "it was another address"),
        ("body", "the content of an error that is no failure, unless the two tell it"),
        ("elapsed", "seconds it took"), ("location", "where it leads, as a whole address"),
        ("…", "each header, as content_type"),
    ),
    notes=("Check mode skips it.",),
)  # fmt: skip
_FOLLOW = {
    "all": "all",
    "yes": "all",
    "urllib2": "all",
    "safe": "safe",
    "no": "none",
    "none": "none",
}


def prepare(args: Dict[str, Any], control: Any) -> Dict[str, Any]:
    """The file that is sent."""
    if not args["src"] or args["remote_src"]:
        return {}
    return {"_blob": control.blob_of(control.find(args["src"], "files"))}


def plan(task: step.Task) -> step.Plan:
    """Ask once."""
    args = task.args
    if task.check:
        return {
            "skipped": True,
            "msg": "remote module (ansible.builtin.uri) does not support check mode",
        }
    for key, wanted, reason in (("creates", True, "exists"), ("removes", False, "does not exist")):
        if args[key] and bool((yield step.Glob(args[key]))) is wanted:
            return {"changed": False, "stdout": f"skipped, since '{args[key]}' {reason}"}
    body, headers = yield from _body(args)
    if args["force"]:
        headers.append(("Cache-Control", "no-cache"))
    elif args["dest"]:
        kept = yield step.Stat(args["dest"], True)
        if kept is not None and kept.kind != "directory":
            headers.append(("If-Modified-Since", _web.http_date(kept.raw["st_mtime"])))
    began = yield step.Pause(0.0)
    answer = yield _web.request(
        args, args["url"], method=args["method"].upper(), body=body, headers=headers,
        follow=_FOLLOW[args["follow_redirects"]],
    )  # fmt: skip
    elapsed = int((yield step.Pause(0.0)) - began)
    if answer.content is not None and not answer.url.lower().startswith(("http:", "https:")):
        raise step.Failed(
            f"{args['url']} is no web address, so that no status answers; use get_url to copy"
            " it, slurp to read a file"
        )
    told = _described(args, answer)
    told["elapsed"] = elapsed
    right = answer.status in args["status_code"]
    told.update((yield from _content(args, answer, _is_json(told), right)))
    if args["dest"] and answer.content is not None:
        is_new = right and answer.status != 304
        told.update((yield from _kept(args, answer, is_new)))
    if right:
        return told
    message = f"Status code was {answer.status} and not {args['status_code']}: {answer.reason}"
    raise step.Failed(message, **{name: one for name, one in told.items() if name != "msg"})


def _body(args: Dict[str, Any]) -> step.Steps:
    """What is sent, and headers that say what it is."""
    given = {name.lower() for name in args["headers"] or {}}
    headers: List[Tuple[str, str]] = []
    body: Optional[bytes] = None
    kind = ""
    if args.get("_blob"):
        body = yield step.Load(step.Blob(**args["_blob"]))
    elif args["src"]:
        body = yield step.Read(args["src"])
        if body is None:
            raise step.Failed(f"Unable to open source file {args['src']}")
    elif args["body"] is not None:
        body, kind = _encoded(args)
    if kind and "content-type" not in given:
        headers.append(("Content-Type", kind))
    return body, headers


def _encoded(args: Dict[str, Any]) -> Tuple[bytes, str]:
    from urllib.parse import urlencode

    body = args["body"]
    if args["body_format"] == "json":
        text = body if isinstance(body, str) else json.dumps(body)
        return text.encode(), "application/json"
    if args["body_format"] == "form-urlencoded":
        text = body if isinstance(body, str) else urlencode(body, doseq=True)
        return text.encode(), "application/x-www-form-urlencoded"
    return (body if isinstance(body, str) else json.dumps(body)).encode(), ""


def _content(args: Dict[str, Any], answer: step.Response, is_json: bool, right: bool) -> step.Plan:
    """What is told of the content; of an error that is no failure always."""
    is_told = args["return_content"] or is_json
    is_error = right and not 200 <= answer.status < 300
    text = ""
    if answer.content is not None and (is_told or is_error):
        text = (yield step.Load(answer.content)).decode("utf-8", "replace")
    told: Dict[str, Any] = {}
    if is_json:
        with contextlib.suppress(ValueError):
            told["json"] = json.loads(text)
    if args["return_content"]:
        told["content"] = text
    elif is_error and not is_told:
        told["body"] = text
    return told


def _described(args: Dict[str, Any], answer: step.Response) -> Dict[str, Any]:
    from urllib.parse import urljoin

    told: Dict[str, Any] = {}
    cookies: Dict[str, str] = {}
    for name, value in answer.headers:
        key = name.lower().replace("-", "_")
        if key == "set_cookie":
            pair, _, value = value.partition("=")
            cookies[pair.strip()] = value.partition(";")[0]
        elif key not in ("changed", "failed", "skipped", "unreachable", "ansible_facts"):
            told[key] = f"{told[key]}, {value}" if key in told else value
    if "location" in told:
        with contextlib.suppress(ValueError):  # it is no address
            told["location"] = urljoin(args["url"], told["location"])
    told.update(
        changed=False, status=answer.status, msg=answer.reason, url=answer.url,
        redirected=answer.url != args["url"], cookies=cookies,
        cookies_string="; ".join("{}={}".format(*pair) for pair in cookies.items()),
    )  # fmt: skip
    return told


def _is_json(told: Dict[str, Any]) -> bool:
    kind = str(told.get("content_type", "")).partition(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def _kept(args: Dict[str, Any], answer: step.Response, is_new: bool) -> step.Plan:
    """What is said of `dest`, once it has what is new."""
    dest = args["dest"]
    found = yield step.Stat(dest, True)
    if found is not None and found.kind == "directory":
        dest = dest.rstrip("/") + "/" + _web.file_name(answer, "index.html")
    if not is_new:
        return {"path": dest, **(yield from _files.describe(dest))}
    content: Any = answer.content
    done = yield from _files.ensure_content(dest, content, args, False, False)
    told = yield from _files.describe(dest)
    return {"path": dest, "dest": dest, **told, **done}
