"""The command line as a shell sees it: options in any place, exit codes, data on stdout, no traceback ever."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from ftclient import Client, errors
from ftclient.cli.main import app, exit_code, main
from ftclient.jobs.diagnosis import diagnose

COMMANDS = sorted(info.name or info.callback.__name__ for info in app.registered_commands)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home, and beside it a good and a bad file."""
    root = tmp_path_factory.mktemp("cli")
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"What is {n} plus one?"},
                    {"role": "assistant", "content": f"It is {n + 1}."},
                ]
            }
        )
        for n in range(20)
    ]
    (root / "good.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "bad.jsonl").write_text("\n".join([*lines, '{"messages": [{"role": "user"']) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of `ftclient serve --engine simulated`."""
    command = [sys.executable, "-m", "ftclient", "--home", str(folder / "server"), "serve"]
    running = subprocess.Popen(
        [
            *command,
            *["--engine", "simulated", "--port", "0", "--alias", "gpt-4o-mini=smollm2-135m", "--allow-local-paths"],
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    with running, running.stderr:
        address = next(found for line in running.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+/v1", line)))
        yield address.group()
        running.terminate()
        running.stderr.read()


@pytest.fixture
def ft(folder: Path, server: str):
    """Run the command; `env` adds to an environment without any FTCLIENT variable."""

    def run(*arguments: str, code: int = 0, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("FTCLIENT", "OPENAI"))}
        done = subprocess.run(
            [sys.executable, "-m", "ftclient", *arguments],
            env={**clean, "FTCLIENT_BACKEND": server, "FTCLIENT_HOME": str(folder / "home"), **env},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            encoding="utf-8",
            cwd=folder,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def here(folder: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in this process, which is quicker, and return its exit code."""
    for name in ("OPENAI_API_KEY", "FTCLIENT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FTCLIENT_BACKEND", server)
    monkeypatch.setenv("FTCLIENT_HOME", str(folder / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(folder)

    class Here:
        def __call__(self, *arguments: str) -> int | str | None:
            capsys.readouterr()
            monkeypatch.setattr(sys, "argv", ["ftclient", *arguments])
            with pytest.raises(SystemExit) as left:
                main()
            return left.value.code

        def both(self) -> tuple[str, str]:
            return tuple(capsys.readouterr())

        def out(self) -> str:
            return self.both()[0]

        def text(self) -> str:
            return " ".join("".join(self.both()).split())

        def data(self, *arguments: str) -> Any:
            assert self(*arguments, "--json") == 0
            return json.loads(self.out())

    return Here()


def test_every_command_of_the_main_job_is_there() -> None:
    wanted = (
        "demo check plan train jobs watch events cancel pause resume checkpoints metrics files models chat evaluate"
    )
    assert {*wanted.split(), "serve", "doctor"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_the_global_options(command: str) -> None:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    assert done.exit_code == 0
    assert f"ftclient {command}" in done.output.split("Global options")[1]
    for option in ("--backend", "--home", "--json"):
        assert option in done.output


def test_check_finds_all_problems_and_exits_1(ft) -> None:
    found = json.loads(ft("check", "bad.jsonl", "--json", code=1).stdout)
    assert found["ok"] is False
    assert [(issue["line"], issue["code"]) for issue in found["issues"]] == [(21, "json_syntax")]
    assert "20 examples, 0 errors" in ft("check", "good.jsonl").stdout


@pytest.mark.parametrize("alias", ["foo", "=smollm2-135m", "foo="])
def test_an_alias_that_is_written_wrong_is_told_in_the_words_of_this_command(ft, alias: str) -> None:
    said = ft("serve", "--alias", alias, code=2).stderr
    assert "ftclient serve" in said
    assert "local_backend" not in said
    assert "NAME=MODEL" in said


@pytest.mark.parametrize("place", ["before", "after"])
def test_global_options_may_stand_before_or_after_the_command(ft, server: str, place: str) -> None:
    options = ["--json", "--backend", server]
    arguments = [*options, "jobs"] if place == "before" else ["jobs", *options]
    assert isinstance(json.loads(ft(*arguments, FTCLIENT_BACKEND="openai").stdout), list)


def test_a_folder_as_model_needs_the_servers_leave(here, folder: Path) -> None:
    command = ["train", "good.jsonl", "--model", str(folder / "home"), "--epochs", "1", "--detach"]
    assert here(*command) == 0  # this server was started with --allow-local-paths
    assert here(*command, "--backend", "local", "--home", str(folder / "strict")) == 3
    assert "ftclient serve --allow-local-paths" in here.text()


def test_train_prints_the_ended_job_as_the_api_returns_it_and_the_rest_of_the_way_works(
    ft, here, server: str, folder: Path
) -> None:
    done = ft("train", "good.jsonl", "--model", "gpt-4o-mini", "--valid", "20%", "--epochs", "2", "--json")
    job = json.loads(done.stdout)
    tuned = job["fine_tuned_model"]
    assert (job["object"], job["status"], job["model"]) == ("fine_tuning.job", "succeeded", "smollm2-135m")
    assert job["hyperparameters"]["n_epochs"] == 2
    assert job["validation_file"]
    assert job["id"] in done.stderr

    rows = here.data("metrics", job["id"])
    assert rows[-1]["train_loss"] > 0
    with Client.at(server, home=folder / "home") as client:
        found = diagnose(client.job(job["id"]).metrics())
    assert rows[-1].pop("diagnosis") == found.to_json()
    assert here("metrics", job["id"]) == 0
    assert str(found) in here.both()[1]
    assert not any("diagnosis" in row for row in rows)
    assert here.data("checkpoints", job["id"])[-1]["object"] == "fine_tuning.job.checkpoint"
    assert here("checkpoints", job["id"], "--best") == 0
    assert here.out().strip() in [each["fine_tuned_model_checkpoint"] for each in here.data("checkpoints", job["id"])]
    assert here.data("events", job["id"])[-1]["message"] == "The job has successfully completed"
    assert here("events", job["id"], "--follow", "--json") == 0
    assert [json.loads(line) for line in here.out().splitlines()] == here.data("events", job["id"])
    assert tuned in [model["id"] for model in here.data("models")]
    assert job["training_file"] in [file["id"] for file in here.data("files")]
    assert here("watch", job["id"]) == 0
    assert here.out().strip() == tuned
    assert here("chat", tuned, "What is 3 plus one?", "--temperature", "0") == 0
    assert here.out().strip()
    assert ft("chat", tuned, stdin="What is 3 plus one?").stdout.strip()
    scores = here.data("evaluate", "good.jsonl", "--models", f"gpt-4o-mini,{tuned}")
    assert [each["model"] for each in scores["models"]] == ["gpt-4o-mini", tuned]
    assert here("models", "--delete", tuned) == 0
    assert tuned not in [model["id"] for model in here.data("models")]


def test_models_are_evaluated_by_a_grader_under_a_budget_and_shown_on_a_page(here, tmp_path: Path) -> None:
    grader, page = tmp_path / "grader.json", tmp_path / "page.html"
    check = {"type": "string_check", "input": "{{ sample.output_text }}", "reference": "plus", "operation": "like"}
    grader.write_text(json.dumps({"grader": {**check, "name": "says plus"}}), encoding="utf-8")
    command = ["evaluate", "good.jsonl", "--models", "smollm2-135m,gpt-4o-mini", "--grader", str(grader)]
    assert here(*command, "--html", str(page), "--lang", "ja", "--max-cost", "0") == 0
    out, err = here.both()
    assert "says plus" in out
    assert "answers to ask for" in err, "others of this home may have asked some of the 40"
    assert page.read_text("utf-8").startswith('<!doctype html>\n<html lang="ja">')
    found = here.data(*command)
    assert found["compared_by"] == "says plus"
    assert found["models"][0]["metrics"]["says plus"]["value"] == 1.0
    assert found["differences"][0]["p_value"] == 1.0
    grader.write_text(json.dumps({**check, "operation": "is"}), encoding="utf-8")
    assert here(*command) == 1
    assert f"{grader}: operation: " in here.both()[1]
    grader.write_text("{", encoding="utf-8")
    assert here(*command) == 1
    grader.write_text(json.dumps({**check, "name": "by", "reference": "{{ item.parcel }}"}), encoding="utf-8")
    assert here(*command) == 1
    out, err = here.both()
    assert out == ""
    assert "Error: The grader by failed on all 40 answers" in err
    assert "item.parcel" in err
    assert here("evaluate", "good.jsonl", "--models", "smollm2-135m", "--max-cost", "much") == 2


def test_detached_training_leaves_at_once_and_the_job_goes_on(here) -> None:
    assert here("train", "good.jsonl", "--model", "smollm2-135m", "--detach") == 0
    out, err = here.both()
    assert re.fullmatch(r"ftjob-\w+\n", out)
    assert f"ftclient watch {out.strip()}" in err
    assert here.data("watch", out.strip())["status"] == "succeeded"


def test_what_to_type_next_names_the_backend_that_this_command_was_given(here, server: str, tmp_path: Path) -> None:
    """Without the options the next command would look for the job in another place."""
    place = ["--backend", server, "--home", str(tmp_path / "my home")]
    assert here("train", "good.jsonl", "--model", "smollm2-135m", "--detach", *place) == 0
    out, err = here.both()
    back = shlex.join(["ftclient", *place, "watch", out.strip()])
    assert back in err
    assert here(*shlex.split(back)[1:]) == 0
    model, shown = here.both()
    assert shlex.join(["ftclient", *place, "chat", model.strip()]) in shown


def test_remedies_name_the_backend_that_this_command_was_given(here, server: str, tmp_path: Path) -> None:
    place = ["--backend", server, "--home", str(tmp_path)]
    assert here("watch", "ftjob-nonesuch", *place) == 3
    assert f"`{shlex.join(['ftclient', *place])} jobs` lists" in here.text()
    assert here("watch", "ftjob-nonesuch") == 3
    assert "`ftclient jobs` lists" in here.text()


def test_models_are_listed_without_torch(folder: Path) -> None:
    """It takes seconds to load, and lists nothing."""
    code = (
        "import sys; from ftclient.cli.main import main; sys.argv = ['ftclient', 'models']\n"
        "try: main()\n"
        "except SystemExit as end: sys.exit('torch is loaded' if 'torch' in sys.modules else end.code)\n"
    )
    env = {**os.environ, "FTCLIENT_BACKEND": "local", "FTCLIENT_HOME": str(folder / "light")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "smollm2-135m" in done.stdout


def test_the_server_says_farewell_also_to_whoever_stops_it(folder: Path) -> None:
    command = [sys.executable, "-m", "ftclient", "--home", str(folder / "farewell"), "serve", "--port", "0"]
    running = subprocess.Popen([*command, "--engine", "simulated"], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    with running, running.stderr:
        assert "Serving" in running.stderr.readline()
        running.terminate()
        assert "Stopped. No job is unfinished." in running.stderr.read()
    assert running.returncode == 0


@pytest.fixture
def slow_job(folder: Path, server: str) -> str:
    """The id of a job that takes a minute."""
    return create(folder, server, speed="timed", seconds_per_step=0.3)


def create(folder: Path, server: str, **simulate: object) -> str:
    """Create a simulated job of ten epochs; return its id."""
    with openai.OpenAI(base_url=server, api_key="none") as client:
        file = client.files.create(file=folder / "good.jsonl", purpose="fine-tune")
        hyperparameters = {"n_epochs": 10, "batch_size": 1}
        job = client.fine_tuning.jobs.create(
            model="smollm2-135m",
            training_file=file.id,
            method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
            extra_body={"local": {"simulate": simulate}},
        )
    return job.id


def test_a_cancelled_job_is_exit_code_1_for_who_watches_it(here, slow_job: str) -> None:
    assert here("cancel", slow_job) == 0
    assert here("watch", slow_job) == 1


def test_a_failed_job_says_how_to_go_on(here, folder: Path, server: str) -> None:
    """The commands that it names are typed as this call was."""
    job_id = create(folder, server, fail_at_step=30)
    here_too = ("--backend", server)
    assert here(*here_too, "watch", job_id) == 1
    out, err = here.both()
    resume = f"ftclient --backend {server} resume {job_id}"
    assert f"`{resume}`" in out + err
    assert len(here.data("checkpoints", job_id)) > 0
    assert here(*here_too, "jobs") == 0
    assert f"{job_id} failed and can go on: {resume}" in here.both()[1]
    assert here.data("resume", job_id)["status"] == "queued"
    assert here("watch", job_id) == 1


def test_a_paused_job_is_left_and_can_be_resumed(here, slow_job: str) -> None:
    assert here.data("pause", slow_job)["status"] in ("pausing", "paused")
    assert here("watch", slow_job) == 0
    assert f"ftclient resume {slow_job}" in here.both()[1]
    assert here.data("resume", slow_job)["status"] in ("queued", "running")
    assert here("cancel", slow_job) == 0


def test_a_file_with_errors_starts_nothing(here) -> None:
    before = here.data("jobs")
    assert here("train", "bad.jsonl", "--model", "smollm2-135m") == 1
    out, err = here.both()
    assert "json_syntax" in err
    assert out == ""
    assert here.data("jobs") == before


def test_plan_as_json_has_the_documented_keys(here) -> None:
    found = here.data("plan", "good.jsonl", "--model", "smollm2-135m")
    assert found["n_epochs"] == 5
    assert found["cost_usd"] is None


def test_a_plan_for_openai_needs_neither_key_nor_network(here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert here("plan", "good.jsonl", "--model", "gpt-4.1-mini", "--backend", "openai") == 0
    out = here.out()
    assert "$0.0" in out
    assert "cannot be reached" in out


def test_a_budget_refuses_with_exit_code_1(here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1")
    command = ["train", "good.jsonl", "--model", "gpt-4.1-mini", "--backend", "openai"]
    assert here(*command, "--max-cost", "0.0001") == 1
    assert "more than the limit" in here.text()
    assert here(*command, "--max-cost", "5") == 1  # nobody sits at this terminal
    text = here.text()
    assert "nobody is here to agree. Pass --yes" in text
    assert "sk-canary" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["watch", "ftjob-nonesuch"], 3, "knows no job"),
        (["jobs", "--backend", "http://127.0.0.1:9"], 3, "cannot be reached"),
        (["jobs", "--backend", "openai"], 3, "Set OPENAI_API_KEY"),
        (["jobs", "--backend", "opnai"], 2, "unknown backend"),
        (["plan", "good.jsonl", "--model", "gpt-9"], 3, "gpt-9"),
        (["plan", "nowhere.jsonl", "--model", "m"], 2, "does not exist"),
        (["plan", "good.jsonl", "--model", "m", "--epochs", "99"], 2, "--epochs"),
        (["plan", "good.jsonl", "--model", "m", "--tune", "middle"], 2, "--tune"),
        (["plan", "good.jsonl", "--model", "m", "--valid", "140%"], 2, "no share"),
        (["plan", "good.jsonl", "--model", "m", "--valid", "nowhere.jsonl"], 2, "there is no file"),
        (["train", "good.jsonl", "--model", "m", "--max-cost", "lots"], 2, "no amount"),
        (["train", "good.jsonl", "--model", "m", "--learning-rate", "-1"], 2, "no number above 0"),
        (["train", "good.jsonl", "--model", "m", "--learning-rate", "nan"], 2, "no number above 0"),
        (["train", "good.jsonl", "--model", "m", "--rate-multiplier", "0"], 2, "no number above 0"),
        (["events", ""], 2, "ftclient jobs"),
        (["models", "--tree", "--delete", "m"], 2, "not both"),
        (["plan", "good.jsonl", "--accuracy"], 2, "takes no FILE"),
        (["plan", "good.jsonl", "--compare", "--max-cost", "1"], 2, "--model"),
        (["plan", "good.jsonl", "--model", "m", "--backend", "azure"], 2, "Set AZURE_OPENAI_ENDPOINT"),
        (["evaluate", "good.jsonl", "--models", "m", "--html", "nowhere/page.html"], 2, "nowhere is no folder"),
        (["evaluate", "good.jsonl", "--models", "m", "--judge", "n"], 2, "two models"),
        (["evaluate", "good.jsonl", "--models", "m", "--max-cost", "lots"], 2, "no amount"),
        (["compare", "good.jsonl", "good.jsonl", "--model", "m", "--html", "."], 2, "is a folder"),
        (["compare", "good.jsonl", "good.jsonl", "--model", "m", "--fractions", "x,1"], 2, "0.3,1"),
        (["compare", "good.jsonl", "good.jsonl", "--model", "m", "--fractions", "1", "--html", "p.html"], 2, "no page"),
        (["compare", "good.jsonl", "good.jsonl", "--model", "m", "--max-cost", "lots"], 2, "no amount"),
        (["chat", "m", " "], 2, "nothing in it"),
        (["train", "good.jsonl"], 2, "--model"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_mistakes_and_refusals_have_their_exit_codes_and_a_remedy(here, arguments, code, text) -> None:
    assert here(*arguments) == code
    assert text in here.text()


def test_the_demo_does_the_whole_job_and_ends_with_five_lines_of_python(here) -> None:
    assert here("demo", "--epochs", "1") == 0
    out, err = here.both()
    for step in ("1  Check", "2  Split", "3  Plan", "4  Train", "5  Test"):
        assert step in err
    assert "240 to learn from, 30 to look at while training, 30 kept for the test" in err
    assert "30 held-out questions" in out
    lines = out[out.index("from ftclient import") :].splitlines()
    assert len(lines) == 5
    compile("\n".join(lines), "five_lines", "exec")


def test_the_japanese_demo_says_what_to_expect_and_gives_data(here) -> None:
    assert here("demo", "--lang", "ja", "--epochs", "1", "--json") == 0
    out, err = here.both()
    found = json.loads(out)
    assert "knows little Japanese" in err
    assert found["job"]["status"] == "succeeded"
    assert found["comparison"]["n_examples"] == 30
    assert "。" in found["comparison"]["answers"][0]["prompt"] + found["comparison"]["answers"][1]["prompt"]


@pytest.mark.parametrize("columns", ["40", "60"])
def test_narrow_terminals_show_ids_whole(here, server: str, folder: Path, columns: str) -> None:
    job = here.data("train", "good.jsonl", "--model", "smollm2-135m", "--detach")
    command = [sys.executable, "-m", "ftclient", "jobs", "--backend", server, "--home", str(folder / "home")]
    shown = on_a_terminal(command, COLUMNS=columns, TERM="xterm", NO_COLOR="1")
    row = next(line for line in shown.splitlines() if line.startswith(job["id"]))
    assert job["model"] in row


def test_feedback_that_is_not_there_is_told_with_whose_there_is(here, tmp_path: Path) -> None:
    home = ("--home", str(tmp_path))
    assert here("feedback", "list", "--model", "nope", *home) == 0
    assert here.both() == ("", "There is no feedback yet.\n")
    for model, n in (("a", 2), ("b", 1)):
        for _ in range(n):
            given = ("--model", model, "--prompt", "My lamp flickers.", "--answer", "Buy one.", "--verdict", "bad")
            assert here("feedback", "add", *given, *home) == 0
    said = "There is no feedback on answers of nope. Models that have some: a (2), b (1).\n"
    assert here("feedback", "list", "--model", "nope", *home) == 0
    assert here.both() == ("", said)
    assert here("feedback", "list", "--model", "nope", "--json", *home) == 0
    assert here.both() == ("[]\n", said)
    assert here("feedback", "export", "--to", str(tmp_path / "next.jsonl"), "--model", "nope", *home) == 1
    assert here.both()[1] == f"Error: {said}"


@pytest.mark.parametrize("columns", [40, 80, 250])
def test_feedback_fits_the_terminal_but_for_ids(here, tmp_path: Path, columns: int) -> None:
    model, answer = "ft:smollm2-135m:personal::a1b2c3d4", "Kaufen Sie eine neue, es gibt nichts Besseres als das."
    given = ("--model", model, "--prompt", "Lamp?", "--answer", answer, "--verdict", "bad")
    kept = here.data("feedback", "add", *given, "--home", str(tmp_path))
    command = [sys.executable, "-m", "ftclient", "feedback", "list", "--home", str(tmp_path)]
    lines = on_a_terminal(command, COLUMNS=str(columns), TERM="xterm", NO_COLOR="1").splitlines()
    (row,) = [line for line in lines if line.startswith(kept["id"])]
    assert model in row
    assert (answer in row) is (columns == 250)
    others = [line for line in lines if line is not row]
    assert max(map(len, others)) <= columns, others
    assert answer in " ".join(" ".join(lines[lines.index(row) :]).split())


@pytest.mark.parametrize(
    "command", [("plan", "good.jsonl", "--model", "smollm2-135m"), ("models", "--tree"), ("jobs",)]
)
def test_terminals_get_their_width_and_pipes_get_whole_lines(here, ft, server: str, folder: Path, command) -> None:
    assert here("train", "good.jsonl", "--model", "smollm2-135m") == 0
    tuned = here.out().strip()
    in_a_pipe = ft(*command, COLUMNS="40").stdout.splitlines()
    assert max(map(len, in_a_pipe)) > 60, "a pipe has no width: programs read whole lines"
    ours = [sys.executable, "-m", "ftclient", *command, "--backend", server, "--home", str(folder / "home")]
    shown = on_a_terminal([str(folder / part) if part == "good.jsonl" else part for part in ours], COLUMNS="40")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.split("\r\x1b[2K")[-1]).splitlines()
    assert any(tuned in line for line in lines) is any(tuned in line for line in in_a_pipe)
    if command != ("jobs",):  # ids stay whole there, so that they can be copied
        assert max(map(len, lines)) <= 40, lines


def on_a_terminal(command: list[str], **env: str) -> str:
    """Run a command whose output is a terminal, and return what it shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stdin=theirs, stderr=theirs, env={**os.environ, **env}) as running:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux says the end so
            while data := os.read(ours, 65536):
                shown += data
        os.close(ours)
    assert running.returncode == 0, shown
    return shown.decode()


def test_doctor_says_what_works(here) -> None:
    assert {"ftclient", "home", "tokens", "backend", "machine"} == set(here.data("doctor"))
    assert here("doctor", "--backend", "http://127.0.0.1:9") == 3
    assert "no backend The local backend cannot be reached" in here.text()


def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    """As in `ftclient check FILE --json | head -1`."""
    command = f"{sys.executable} -m ftclient check good.jsonl --json | head -1"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S602
    assert done.stderr == ""


def test_ascii_terminals_get_json_they_can_show(ft) -> None:
    done = ft("check", "bad.jsonl", "--json", code=1, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert json.loads(done.stdout)["n_errors"] == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DataError("x"), 1),
        (errors.BudgetError("x"), 1),
        (errors.JobFailedError("x"), 1),
        (errors.AuthError("x"), 3),
        (errors.UnavailableError("x"), 3),
        (errors.JobNotFoundError("x"), 3),
        (errors.UnsupportedError("x"), 3),
        (errors.MissingDependencyError("x"), 3),
    ],
)
def test_errors_have_the_documented_exit_codes(error: errors.FtclientError, code: int) -> None:
    assert exit_code(error) == code
