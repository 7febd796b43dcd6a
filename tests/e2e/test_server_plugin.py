"""The pytest plugin as a user's suite has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SUITE = """
def test_a_support_bot_learns_its_answers(ft_client):
    lines = [
        {"messages": [{"role": "user", "content": f"Code {i}?"}, {"role": "assistant", "content": f"Answer {i}."}]}
        for i in range(10)
    ]
    from ftclient import Dataset

    data = Dataset(lines)
    job = ft_client.train(ft_client.plan(data, model="gpt-4.1-mini"))
    result = job.wait()
    assert result.model.startswith("ft:")
    answer = ft_client.openai.chat.completions.create(
        model=result.model, messages=[{"role": "user", "content": "Code 7?"}]
    )
    assert answer.choices[0].message.content == "Answer 7."


def test_each_test_has_a_home_of_its_own(ft_client, ft_backend):
    assert ft_backend == "simulated"
    assert list(ft_client.openai.fine_tuning.jobs.list()) == []
"""


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_bot.py").write_text(SUITE)
    kept = {name: value for name, value in os.environ.items() if name not in ("OPENAI_API_KEY", "CI")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**kept, "FTCLIENT_HOME": str(folder / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_users_suite_runs_against_the_simulated_backend(tmp_path: Path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_hosted_backend_is_refused_without_a_key(tmp_path: Path):
    done = run(tmp_path, "--ft-backend=hosted", CI="true")
    assert done.returncode == 4
    assert "--ft-backend=hosted is refused in CI without OPENAI_API_KEY" in done.stderr


def test_loading_the_plugin_loads_nothing_heavy():
    code = (
        "import sys, pytest, ftclient.testing\n"
        "heavy = {'torch', 'openai', 'httpx2', 'sqlalchemy', 'fastapi', 'local_backend'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
