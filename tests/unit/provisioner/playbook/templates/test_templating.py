"""Templates: native values, undefined is an error with its place, what hosts say stays data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sappers.errors import PlaybookError
from sappers.provisioner.playbook.tasks.variables import PENDING, HostFacts, Scope, as_source
from sappers.provisioner.playbook.templates.functions import make_templates
from sappers.provisioner.playbook.templates.values import NotYetKnown
from sappers.provisioner.source import Place, Text

TEMPLATES = make_templates()
PLACE = Place("play.yml", 7, 3)


def scope(**variables: Any) -> Scope:
    layer = {name: as_source(value, PLACE) for name, value in variables.items()}
    return Scope(TEMPLATES, [layer], HostFacts(), [])


def render(text: str, **variables: Any) -> Any:
    return TEMPLATES.render(Text(text, PLACE), scope(**variables), PLACE)


@pytest.mark.parametrize(
    ("text", "variables", "value"),
    [
        ("{{ n }}", {"n": 5}, 5),
        ("{{ n }}", {"n": [1, {"a": None}]}, [1, {"a": None}]),
        ("{{ n }}!", {"n": 5}, "5!"),
        ("{{ 5 }}", {}, 5),
        ("{{ '5' }}", {}, "5"),
        ("{{ a }}", {"a": "{{ b }}", "b": "{{ c + 1 }}", "c": 1}, 2),
        ("{{ [1, 2] | map('string') }}", {}, ["1", "2"]),
        ("{{ x | default('d') }}", {}, "d"),
        ("{{ x.y.z | default('d') }}", {}, "d"),
        ("{{ x is defined }}", {}, False),
        ("{% if true %}a{% endif %}", {}, "a"),
        ("plain", {}, "plain"),
        ("{{ m.a['b'].0 }}", {"m": {"a": {"b": [3]}}}, 3),
        ("{{ lookup('vars', 'y') }}", {"y": "{{ 1 + 1 }}"}, 2),
        ("{{ q('sequence', 'start=1 end=3') }}", {}, ["1", "2", "3"]),
        ("{{ '1.10' is version('1.9', '>=') }}", {}, True),
        ("{{ {'a': 1} | combine({'b': 2}) | dict2items | map(attribute='key') }}", {}, ["a", "b"]),
        ("{{ 'a-b' | regex_replace('^(.)-', '\\1+') }}", {}, "a+b"),
        ("{{ [1, 2, 2] | unique | union([3]) | sum }}", {}, 6),
        ("{{ yes | ternary('y', 'n') }}", {"yes": True}, "y"),
    ],
)
def test_renders(text: str, variables: dict[str, Any], value: Any) -> None:
    assert render(text, **variables) == value


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        ("{{ x }}", {}, "play.yml:7:3: 'x' is undefined"),
        ("a {{ x.y }}", {"x": {}}, "play.yml:7:3: .*has no attribute 'y'"),
        ("{{ a", {}, "play.yml:7:3: template: "),
        ("{{ a }}", {"a": "{{ b }}", "b": "{{ a }}"}, "refers to itself: a → b → a"),
        ("{{ 1 / 0 }}", {}, "division by zero"),
        ("{{ x | nofilter }}", {"x": 1}, "No filter named 'nofilter'"),
        ("{{ ''.__class__.__mro__ }}", {}, "unsafe|undefined"),
    ],
)
def test_errors_have_their_place(text: str, variables: dict[str, Any], message: str) -> None:
    with pytest.raises(PlaybookError, match=message):
        render(text, **variables)


def test_an_error_is_where_the_variable_is_written() -> None:
    there = Scope(TEMPLATES, [{"a": Text("{{ nope }}", Place("vars.yml", 2, 4))}], HostFacts(), [])
    with pytest.raises(PlaybookError, match=r"vars.yml:2:4: 'nope' is undefined"):
        TEMPLATES.render(Text("{{ a }}", PLACE), there, PLACE)


@given(st.text(alphabet="{}% abc#1+'\"", max_size=20))
def test_what_a_host_says_is_never_a_template(said: str) -> None:
    told = HostFacts().tell({"said": said})
    there = Scope(TEMPLATES, [told.told, {"v": Text("{{ said }}", PLACE)}], told, [])
    assert TEMPLATES.render(Text("{{ v }}", PLACE), there, PLACE) == said
    assert TEMPLATES.render({"k": said}, there, PLACE) == {"k": said}


def test_what_is_under_way_is_waited_for() -> None:
    there = Scope(TEMPLATES, [{"r": PENDING}], HostFacts(facts_pending=True), [])
    for text in ("{{ r.rc }}", "{{ r is defined }}", "{{ ansible_os_family | default(1) }}"):
        with pytest.raises(NotYetKnown):
            TEMPLATES.render(Text(text, PLACE), there, PLACE)


@pytest.mark.parametrize("condition", ["x == 1", "{{ x == 1 }}", True, "x is defined and not y"])
def test_conditions_hold(condition: Any) -> None:
    assert TEMPLATES.holds(as_source(condition, PLACE), scope(x=1, y=False), PLACE)


def test_a_condition_is_true_or_false() -> None:
    with pytest.raises(PlaybookError, match="has to be true or false") as caught:
        TEMPLATES.holds(Text("x", PLACE), scope(x="text"), PLACE)
    assert "is defined" in str(caught.value.hint)


def test_omit_goes_out_of_containers() -> None:
    value = {"a": Text("{{ omit }}", PLACE), "b": [Text("{{ x | default(omit) }}", PLACE), 1]}
    assert TEMPLATES.render(value, scope(), PLACE) == {"b": [1]}


def test_a_template_file_names_its_line() -> None:
    with pytest.raises(PlaybookError, match=r"t.j2:3:4: 'nope' is undefined"):
        TEMPLATES.render_file("a\n\n{{ nope }}", scope(), Place("t.j2"), {})
    text = TEMPLATES.render_file("{% for i in r %}\n{{ i }}\n{% endfor %}\n", scope(r=[1, None]),
                                 Place("t.j2"), {})  # fmt: skip
    assert text == "1\n\n"  # as in Ansible: nothing is no text


def test_files_that_lookups_find_are_named_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever uses the name may be in another folder by then."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a.txt").touch()
    monkeypatch.chdir(tmp_path)
    beside = Scope(TEMPLATES, [], HostFacts(), [], (Path(),))

    for asked in ("q('fileglob', '*.txt')", "q('first_found', 'files/a.txt')"):
        found = TEMPLATES.render(Text("{{ " + asked + " }}", PLACE), beside, PLACE)
        assert found == [str(tmp_path / "files/a.txt")]
