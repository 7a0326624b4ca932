from __future__ import annotations

from sappers.images.own_modules import find_source, own_modules, own_packages
from sappers.images.python_root import locked_requirements, with_dependencies

LOCK = """\
bcrypt==5.0.0 \\
    --hash=sha256:aa
    # via paramiko
cffi==2.1.1 ; platform_python_implementation != 'PyPy' \\
    --hash=sha256:bb
    # via
    #   cryptography
    #   pynacl
cryptography==50.0.2 \\
    --hash=sha256:cc
    # via
    #   sappers (pyproject.toml)
    #   paramiko
httpx==1.0 \\
    --hash=sha256:dd
    # via sappers (pyproject.toml)
paramiko==5.1.0 \\
    --hash=sha256:ee
    # via
    #   sappers (pyproject.toml)
    #   fabric
"""


def test_a_wheel_comes_with_all_it_depends_on_and_nothing_else() -> None:
    assert with_dependencies(LOCK, ["paramiko"]) == ("bcrypt", "cffi", "cryptography", "paramiko")
    assert with_dependencies(LOCK, ["httpx"]) == ("httpx",)
    assert "sha256:ee" in locked_requirements(LOCK, ("paramiko",))


def test_modules_bring_what_they_import_of_sappers_and_packages_all_of_their_sources() -> None:
    named = ("sappers.provisioner.repair.restore", "sappers.provisioner.remote")
    places = [place for place, _ in own_modules(named)]
    assert "sappers/provisioner/executor/executor.py" in places
    assert "sappers/model/repair.py" in places
    assert "sappers/__init__.py" in places
    assert not any("inventory" in place or "host_values" in place for place in places)
    sources = [place for place, _ in own_packages(named)]
    assert "sappers/provisioner/remote/main.py" in sources
    assert not any("executor" in place for place in sources)


def test_what_is_no_module_is_not_found() -> None:
    assert find_source("sappers.nothing") is None
    assert find_source("sappers.errors") is not None
