"""Renders templates as Ansible does: native values, undefined is an error, one pass.

What a template yields is data and never a template again, so nothing that a host says is run here.
In a sandbox: a template reaches values and their methods, not the interpreter.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from sappers.errors import PlaybookError
from sappers.provisioner.playbook import unsupported
from sappers.provisioner.playbook.templates import embedded
from sappers.provisioner.playbook.templates.environments import (
    SCOPE,
    ConditionEnvironment,
    FileEnvironment,
    ScopeContext,
    ValueEnvironment,
    equip,
)
from sappers.provisioner.playbook.templates.files import TemplateFiles
from sappers.provisioner.playbook.templates.header import read_header
from sappers.provisioner.playbook.templates.origin import MANAGED
from sappers.provisioner.playbook.templates.template_places import (
    column_in_line,
    column_of,
    line_of_file,
    offset_named,
    problem_of,
)
from sappers.provisioner.playbook.templates.text_places import place_within
from sappers.provisioner.playbook.templates.values import (
    OMIT,
    NeedsOthers,
    NotYetKnown,
    Undefined,
    UndefinedVariable,
    Variables,
    plain,
    together,
)
from sappers.provisioner.source import Data, Place, Sealed, Text, is_template, place_of
from sappers.provisioner.source import Mapping as SourceMapping


class Templates:
    """An environment with the filters, tests and functions of playbooks, and what it compiled."""

    def __init__(
        self,
        filters: Mapping[str, Any],
        tests: Mapping[str, Any],
        functions: Mapping[str, Any],
        lookups: Collection[str],
        managed: str = MANAGED,
    ) -> None:
        self.managed = managed
        self._compiled: dict[tuple[str, bool, bool], jinja2.Template] = {}
        self._compiled_files: dict[tuple[Any, ...], jinja2.Template] = {}
        self._compiling = threading.RLock()
        self._environment = ValueEnvironment()
        self._conditions = ConditionEnvironment()
        self._files = FileEnvironment()
        self._lookups = frozenset(lookups)
        for environment in (self._environment, self._conditions, self._files):
            equip(environment, filters, tests, functions, self._lookups)
            environment.filters[embedded.FILTER] = self._embedded

    def render(self, value: Any, scope: Variables, otherwise: Place) -> Any:
        """A value with every template in it rendered; what is `omit` in a container goes.

        Raises:
            PlaybookError: A template is wrong, or a variable undefined; at its place.
            NotYetKnown: It asks for what is under way.
        """
        if isinstance(value, Text):
            if not is_template(value):
                return str(value)
            return self.render_text(value, scope, value.place)
        if isinstance(value, Data):
            return str(value)
        if isinstance(value, Sealed):
            raise value.error()
        if isinstance(value, dict):
            place = place_of(value, otherwise)
            read_as = value.read_as if isinstance(value, SourceMapping) else {}
            pairs = (
                (read_as.get(key, self.render(key, scope, place)), self.render(one, scope, place))
                for key, one in value.items()
            )
            return {key: one for key, one in pairs if one is not OMIT}
        if isinstance(value, list | tuple):
            place = place_of(value, otherwise)
            rendered = (self.render(one, scope, place) for one in value)
            return [one for one in rendered if one is not OMIT]
        return value

    @jinja2.pass_context
    def _embedded(self, context: ScopeContext, text: str) -> Any:
        """What a text of an expression yields that is a template itself."""
        try:
            return self.render_text(text, context.parent[SCOPE], Place("(in an expression)"))
        except UndefinedVariable as error:
            return Undefined(hint=str(error))

    def render_text(
        self,
        text: str,
        scope: Variables,
        place: Place,
        *,
        escaped: bool = True,
        is_condition: bool = False,
        written: str | None = None,
    ) -> Any:
        """What a template yields: one expression's own value, else text. Raises as `render`.

        Args:
            escaped: A backslash in a text of an expression is one, as in Ansible's task arguments
                (not in its conditions).
            written: What stands in the file, where that is an expression without braces.
        """
        written = text if written is None else written
        try:
            template = self._compile(text, escaped=escaped, is_condition=is_condition)
            found = self._yielded(template, scope)
            return _with_newlines_of(text, found) if isinstance(found, str) else found
        except (PlaybookError, NotYetKnown, NeedsOthers):
            raise
        except jinja2.TemplateSyntaxError as error:
            raise self._explained(error, text, written, place) from error
        except jinja2.UndefinedError as error:
            message = str(error.message)
            at = place_within(written, place, offset_named(written, message))
            raise UndefinedVariable(
                message, path=at.path, line=at.line, column=at.column, hint=_HINT_UNDEFINED
            ) from error
        except RecursionError as error:
            raise place.error("the template refers to itself") from error
        except Exception as error:  # a template may compute anything, and fail in any way
            raise place.error(f"the template fails: {error or type(error).__name__}") from error

    def check(self, text: Text, *, is_condition: bool = False) -> None:
        """Refuse a template or condition that cannot be understood, whatever its variables are.

        Raises:
            PlaybookError: Its syntax is wrong, or there is no filter or test of a name.
        """
        if not (is_condition or is_template(text)):
            return
        source = _braced(text) if is_condition else str(text)
        try:
            self._compile(source, escaped=not is_condition, is_condition=is_condition)
        except jinja2.TemplateSyntaxError as error:
            raise self._explained(error, source, text, text.place) from error

    def evaluate(
        self, expression: Any, scope: Variables, place: Place, *, is_condition: bool = False
    ) -> Any:
        """The value of an expression without braces, as of `when`. Raises as `render`.

        What no person wrote is data and stays as it is, also where it looks like an expression.
        """
        if not isinstance(expression, Text):
            return expression
        at = place_of(expression, place)
        text = _braced(expression)
        return self.render_text(
            text, scope, at, escaped=False, is_condition=is_condition, written=expression
        )

    def holds(self, condition: Any, scope: Variables, place: Place) -> bool:
        """Whether a condition holds.

        Raises:
            PlaybookError: It is wrong, or neither true nor false; as `render` beside.
        """
        value = self.evaluate(condition, scope, place, is_condition=True)
        if not isinstance(value, bool):
            raise place_of(condition, place).error(
                f"a condition has to be true or false; this is {value!r}",
                hint="compare it, or use `| bool`, `is defined`, `| length > 0`",
            )
        return value

    def render_file(
        self, content: str, scope: Variables, place: Place, settings: Mapping[str, Any],
        folders: Sequence[Path] = (),
    ) -> str:  # fmt: skip
        """A template file's text.

        Args:
            settings: Those of the environment, as `trim_blocks`.
            folders: Where its task looks for files: what it includes is in their `templates`.

        Raises:
            PlaybookError: As `render`; the line is the file's.
        """
        text: str = self._render_file(self._files, content, scope, place, settings, folders)
        return text

    def render_value(
        self, content: str, scope: Variables, place: Place, settings: Mapping[str, Any],
        folders: Sequence[Path] = (),
    ) -> Any:  # fmt: skip
        """As `render_file`, but the value itself where the file is one expression."""
        return self._render_file(self._environment, content, scope, place, settings, folders)

    def _render_file(
        self,
        environment: ValueEnvironment | FileEnvironment,
        content: str,
        scope: Variables,
        place: Place,
        settings: Mapping[str, Any],
        folders: Sequence[Path],
    ) -> Any:
        header = ""
        try:
            header, settings_there = read_header(content)
            settings = {**settings, **settings_there}
            searched = (Path(place.path).parent, *folders)
            template = self._compile_file(environment, content[len(header) :], settings, searched)
            found = (
                "".join(self._values(template, scope)) if environment is self._files
                else self._yielded(template, scope)
            )  # fmt: skip
        except (PlaybookError, NotYetKnown, NeedsOthers):
            raise
        except Exception as error:  # a template may compute anything, and fail in any way
            raise self._explained_in_file(error, content, header, place, settings) from error
        if not isinstance(found, str):
            return found
        return _with_newlines_of(content, found, str(settings.get("newline_sequence", "\n")))

    def _explained(
        self, error: jinja2.TemplateSyntaxError, source: str, written: str, place: Place
    ) -> PlaybookError:
        """An error where it is in the file, with what was meant."""
        offset = source.find(written.strip()) - (len(written) - len(written.lstrip()))
        lines = source.split("\n")[: error.lineno - 1]
        at = sum(len(line) + 1 for line in lines) + (column_of(error) or 1) - 1
        there = place_within(written, place, min(max(0, at - offset), len(written) - 1))
        missing = _NO_SUCH.match(error.message or "")
        is_known = missing is not None and unsupported.is_known_in_templates(*missing.groups())
        return (unsupported.Unsupported if is_known else PlaybookError)(
            f"template: {problem_of(error)}", path=there.path, line=there.line,
            column=there.column, hint=self._hint(error),
        )  # fmt: skip

    def _explained_in_file(
        self, error: Exception, content: str, header: str, place: Place,
        settings: Mapping[str, Any],
    ) -> PlaybookError:  # fmt: skip
        """An error where it is in the file, or in one that it includes."""
        if isinstance(error, jinja2.TemplateSyntaxError):
            below = 0 if error.filename else header.count("\n")
            there = Place(error.filename or place.path, error.lineno + below, column_of(error))
            return there.error(problem_of(error), hint=self._hint(error))
        path, line = _line_in_template(error)
        line = line and line + (0 if path else header.count("\n"))
        message = getattr(error, "message", None) or str(error) or type(error).__name__
        path = path or place.path
        failing = line_of_file(path, content, line, place.path)
        column = column_in_line(failing, message, settings)
        hint = _HINT_UNDEFINED if isinstance(error, jinja2.UndefinedError) else None
        return Place(path, line, column).error(message, hint=hint)

    def _hint(self, error: jinja2.TemplateSyntaxError) -> str | None:
        missing = _NO_SUCH.match(error.message or "")
        if missing is None:
            return next((hint for sign, hint in _EXPECTED if sign in (error.message or "")), None)
        kind, name = missing.groups()
        known = {"filter": self._environment.filters, "test": self._environment.tests}
        names = set(map(str, known.get(kind, self._lookups)))
        return unsupported.hint_in_templates(kind, name, names)

    def _compile(self, text: str, *, escaped: bool, is_condition: bool) -> jinja2.Template:
        escaped = escaped and "\\" in text
        key = text, escaped, is_condition
        if (known := self._compiled.get(key)) is not None:
            return known  # as for all tasks but the first: hosts do not wait for each other
        with self._compiling:
            if key not in self._compiled:
                environment = self._conditions if is_condition else self._environment
                source = _with_backslashes(environment, text) if escaped else text
                try:
                    self._compiled[key] = environment.from_string(source)
                except jinja2.TemplateSyntaxError as error:
                    raise _as_written(error, environment, text) from error
            return self._compiled[key]

    def _compile_file(
        self, environment: jinja2.Environment, content: str, settings: Mapping[str, Any],
        searched: tuple[Path, ...],
    ) -> jinja2.Template:  # fmt: skip
        """Once for all hosts, also where they come to it at one time."""
        key = environment is self._files, content, tuple(sorted(settings.items())), searched
        with self._compiling:
            if key not in self._compiled_files:
                files = TemplateFiles(searched[0], searched[1:])
                environment = environment.overlay(loader=files, **settings)
                files.note(environment, content)
                self._compiled_files[key] = environment.from_string(content)
            return self._compiled_files[key]

    def _values(self, template: jinja2.Template, scope: Variables) -> Iterator[Any]:
        parent = {**template.globals, SCOPE: scope}
        context = ScopeContext(template.environment, parent, template.name, template.blocks)
        return iter(template.root_render_func(context))

    def _yielded(self, template: jinja2.Template, scope: Variables) -> Any:
        return plain(together(self._values(template, scope)))


def _with_backslashes(environment: jinja2.Environment, text: str) -> str:
    """The template with its backslashes doubled where an expression has a text with some."""
    parts: list[str] = []
    in_expression = False
    for _, kind, part in environment.lex(text):
        if kind in ("variable_begin", "variable_end"):
            in_expression = kind == "variable_begin"
        quoted = in_expression and kind == "string"
        parts.append(part.replace("\\", "\\\\") if quoted else part)
    return "".join(parts)


def _as_written(
    error: jinja2.TemplateSyntaxError, environment: jinja2.Environment, text: str
) -> jinja2.TemplateSyntaxError:
    """The same error, where it is without the backslashes that were doubled."""
    try:
        environment.from_string(text)
    except jinja2.TemplateSyntaxError as found:
        if found.message == error.message:
            return found
    return error


def _braced(expression: str) -> str:
    """An expression as a template."""
    text = expression.strip()
    if text.startswith("{{") and text.endswith("}}") and text.count("{{") == 1:
        return text
    return "{{ " + text + " }}"


_NO_SUCH = re.compile(r"No (filter|test|lookup) named '(.+?)'")
_EXPECTED = (
    ("got '='", "`==` compares"),
    ("unexpected '='", "`==` compares"),
    ("unexpected '>'", "`!=` where two differ"),
    ("char '&'", "write `and`"),
    ("got '|'", "write `or`; one `|` goes before a filter"),
    ("char '!'", "write `not`; `!=` compares"),
    ("char '?'", "write `THIS if CONDITION else THAT`"),
    ('char "\'"', "end the text with a quote"),
    ("char '\"'", "end the text with a quote"),
    ("expected token ':', got '}'", "an expression has no braces around its names"),
    ("unexpected '}'", "`{{` ends with `}}`, and `{` within it with `}`"),
    ("end of print statement", "one expression: `{{ value }}`, `{{ value | filter }}`"),
    ("looking for the following tags", "end each `{% if … %}` with `{% endif %}`, and so on"),
    ("end of template", "end what was begun: `}}`, `%}`, a text's quote"),
)
_HINT_UNDEFINED = "define it, or write `| default(…)`"


def _with_newlines_of(source: str, text: str, newline: str = "\n") -> str:
    """As many newlines at the end as the template has, also where it ends with a block."""
    missing = len(source) - len(source.rstrip("\n")) - (len(text) - len(text.rstrip("\n")))
    return text + newline * max(0, missing)


def _line_in_template(error: BaseException) -> tuple[str | None, int | None]:
    """The file, where it is an included one, and the line of the template an error came from."""
    path, line = None, None
    trace = error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            path = None if template.filename == "<template>" else template.filename
            line = int(template.get_corresponding_lineno(trace.tb_lineno))
        trace = trace.tb_next
    return path, line
