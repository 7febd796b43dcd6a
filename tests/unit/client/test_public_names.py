"""What `import ftclient` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ftclient


def test_all_is_sorted_and_has_no_repeats() -> None:
    """Constants come before classes, as the linter sorts them."""
    assert sorted(set(ftclient.__all__), key=lambda name: (not name.isupper(), name)) == ftclient.__all__


@pytest.mark.parametrize("name", ftclient.__all__)
def test_every_public_name_loads_and_is_listed(name: str) -> None:
    assert getattr(ftclient, name).__name__ == name
    assert name in dir(ftclient)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = ftclient.Trainer


def test_names_of_the_design_can_be_imported_without_the_official_client() -> None:
    """Data and options are usable before any backend is; only the first Client loads openai."""
    code = (
        "import sys\n"
        "from ftclient import Dataset, Supervised, DPO, LocalOptions, LoRA, Full, LastLayers, Head\n"
        "from ftclient import Client\n"
        "sys.exit('openai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_the_local_client_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['fastapi'] = None\n"  # what Python itself does for a package that must not be found
        "from ftclient import Client, MissingDependencyError\n"
        "try:\n"
        "    Client.local()\n"
        "except MissingDependencyError as error:\n"
        "    sys.exit(0 if str(error) == 'pip install \"ftclient[local]\"' else str(error))\n"
        "sys.exit('nothing was raised')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
