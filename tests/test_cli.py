import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gasp_rl.cli import first_free, main
from gasp_rl.commands import Demo, Export, Mine, Mining, MiningModels, Report, Train, Training, read
from gasp_rl.config import GaspConfig, RunConfig
from gasp_rl.errors import ConfigError
from gasp_rl.problems.jsonl import read_problems
from gasp_rl.recipes import RECIPES, demo, filtering
from gasp_rl.rollout import Iteration
from gasp_rl.runs.directory import create_run
from gasp_rl.runs.journal import IterationRecord, JournalWriter, Started

CONFIG = RunConfig(recipe="demo", steps=3, gasp=GaspConfig())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that ended without a word in its second iteration."""
    directory = create_run(tmp_path / "run", CONFIG)
    with JournalWriter(directory.journal) as journal:
        journal.append(Started(CONFIG, "0.1"))
        journal.append(IterationRecord(Iteration(1, ())))
    return directory.root


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_can_be_asked_for_by_name(recipe: str) -> None:
    assert read(["train", recipe]) == Train(Training(RECIPES[recipe]()))


def test_any_setting_can_be_changed_however_deep() -> None:
    command = read(["train", "demo", "--steps", "3", "--gasp.ladder.0.band.low", "2", "--out", "here"])

    assert isinstance(command, Train)
    assert command.recipe.out == Path("here")
    config = command.recipe.config
    assert config.steps == 3
    assert config.gasp is not None
    assert config.gasp.ladder[0].band.low == 2
    assert config.learn == demo().learn


def test_the_demo_takes_the_same_options() -> None:
    command = read(["demo", "--steps", "3"])

    assert isinstance(command, Demo)
    assert command.config.steps == 3


def test_paths_are_read() -> None:
    assert read(["report", "runs/a"]) == Report(Path("runs/a"))
    assert read(["export", "runs/a", "model"]) == Export(Path("runs/a"), Path("model"))


TINKER = ["train", "micro-gasp", "--engine", "tinker", "--model.lora.rank", "8"]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["train", "demo", "--gasp.min-program", "3"], "unknown option --gasp.min-program; did you mean --gasp.min-programs?"),
        (["train", "demo", "--gasp.min_progams=3"], "unknown option --gasp.min_progams=3; did you mean --gasp.min-programs?"),
        (["train", "micro-gaps"], "unknown recipe micro-gaps; did you mean micro-gasp?"),
        (["train", "ppo", "--steps", "3"], "unknown recipe ppo; see gasp train --help"),
        (["train", "azr", "--azr.tires", "3"], "unknown option --azr.tires; did you mean --azr.tries?"),
        (["train", "--steps", "3", "demo"], "--steps stands before the recipe; put it behind"),
        (["demo", "--frobnicate"], "unknown option --frobnicate"),
        (["demo", "--gasp.tries", "0"], "gasp.tries must be at least 1, got 0"),
        (["demo", "--gasp.ladder.1.name", "lemma"], "gasp.ladder must be rungs of different names, got ['lemma', 'lemma']"),
        (["demo", "--learn.betas", "1", "1"], "learn.betas must be from 0 to below 1, got (1.0, 1.0)"),
        (["demo", "--sampling.max-tokens", "0"], "sampling.max_tokens must be at least 1, got 0"),
        (["demo", "--problems.max-goalposts", "-1"], "problems.max_goalposts must be at least 0, got -1"),
        (["demo", "--problems.goalposts", ""], "problems.goalposts must be a problem file, since the recipe has a gasp section, got ''"),
        (["train", "rlvr", "--problems.train", ""], "problems.train must be a problem file, since the recipe has a rlvr section, got ''"),
        (["demo", "--evaluate.samples", "10"], "evaluate.ks must be from 1 to evaluate.samples, which is 10, got (1, 5, 10, 20)"),
        (["train", "azr", "--azr.pairs", "1"], "azr.pairs must be at least 2, got 1"),
        (["evaluate", "micro", "--samples", "0"], "samples must be at least 1, or 0 with --greedy, got 0"),
        (["evaluate", "micro", "--sampling.temperature", "0"], "samples must be 1 at temperature 0, where all draws are the same, got 100"),
        (["evaluate", "micro", "--since", "last year"], "since must be a date like 2024-08-01, got 'last year'"),
        (["evaluate", "micro", "--edges", "2024-08-01", "2024-07-01"], "edges must be dates in order, got ('2024-08-01', '2024-07-01')"),
        (["train", "demo", "--model.prompts", "lcb"], "model.prompts must be micro, chat or r1 to train: the others only ask problems, got 'lcb'"),
        (["problems", "split", "a.jsonl", "--share", "2"], "share must be between 0 and 1, got 2.0"),
        (["problems", "split", "a.jsonl", "--test-from", "soon"], "test-from must be a date like 2024-08-01, got 'soon'"),
        (["problems", "split", "a.jsonl", "--test-from", "2024-07-01"], "test-from must be 2024-08-01 or later, got '2024-07-01'"),
        (["problems", "split", "a.jsonl", "--test-til", "2025-01-01"], "unknown option --test-til; did you mean --test-until?"),
        (["problems", "split"], "files must be one or more, got ()"),
        (TINKER[:4], "model.lora.rank must be 1 or more with the engine tinker, which trains adapters only, got 0"),
        ([*TINKER, "--model.lora.alpha", "16"], "model.lora.alpha must be 32 with the engine tinker, where it is fixed, got 16"),
        ([*TINKER, "--sampling.temperature", ".7"], "sampling.temperature must be 1 with the engine tinker, whose losses know no other, got 0.7"),
        ([*TINKER, "--model.sampler", "vllm"], "model.sampler must be left alone with the engine tinker, which samples, got 'vllm'"),
        ([*TINKER, "--model.device", "cuda"], "model.device must be auto with the engine tinker, which has its own, got 'cuda'"),
        ([*TINKER, "--model.eight-bit-adam"], "model.eight_bit_adam must be off with the engine tinker, which keeps the moments, got True"),
        ([*TINKER, "--tinker.address", "localhost:8000"], "tinker.address must be a URL like http://localhost:8000, got 'localhost:8000'"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_line_with_the_fix(args: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(args)

    assert str(raised.value) == line


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["train", "demo", "--steps", "abc"], "Error parsing --steps: invalid literal for int() with base 10: 'abc'"),
        (["mine", "micro"], "Missing from gasp mine micro: PATH --out DIR"),
        (["train", "demo", "--gasp.reuse-tries", "3", "--steps"], "Missing value for argument '--steps'. Expected 1 values"),
        ([], "Expected one of {demo, train, plan, probe, evaluate, mine, compare, resume, replay, report, watch, rebuild, export, problems, world, sandbox, doctor}"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_at_all_is_one_line_too_and_repeats_what_was_given(args: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(args)

    assert str(raised.value) == f"{line}; got: gasp {' '.join(args)}".rstrip()


def test_a_plan_for_a_service_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *TINKER[1:]]) == 2

    line = "gasp: engine must be local or ray: what a service needs for the model is its own affair, got 'tinker'\n"
    assert capsys.readouterr().err == line


def test_a_fault_is_one_line_on_stderr_and_exit_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = main(["report", str(tmp_path)])

    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err == f"gasp: {tmp_path} is not a run directory: it has no config.json\n"


def test_the_report_of_an_unfinished_run_is_written_and_says_so(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    code = main(["report", str(run)])

    out = capsys.readouterr().out
    assert code == 0
    assert "1 of 3 iterations of demo are done" in out
    assert f"Report: {run / 'report.html'}" in out
    assert out.endswith(f"To go on, if nothing does: gasp resume {run}\n")
    assert (run / "report.html").is_file()


def test_a_run_is_never_written_over(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    before = {path: path.read_bytes() for path in run.iterdir()}

    assert main(["train", "demo", "--out", str(run)]) == 2

    assert "holds a run already; give another --out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_model_is_exported_once_it_is_there_and_nothing_is_overwritten(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    assert main(["export", str(run), str(tmp_path / "model")]) == 2
    assert "no trained model yet" in capsys.readouterr().err

    (run / "model").mkdir()
    (run / "model" / "config.json").write_text("{}")
    assert main(["export", str(run), str(tmp_path / "model")]) == 0
    assert (tmp_path / "model" / "config.json").read_text() == "{}"
    assert main(["export", str(run), str(tmp_path / "model")]) == 2


PROBLEMS = """\
{"id": "a", "statement": "add one", "public_tests": [{"input": "1", "output": "2"}], "hidden_tests": [{"input": "2", "output": "3"}], "date": "2024-05-01", "difficulty": "easy"}
{"id": "b", "statement": "take one", "public_tests": [{"input": "1", "output": "0"}], "hidden_tests": [{"input": "2", "output": "1"}], "date": "2024-09-01", "difficulty": "\\u001b[31mred"}
"""


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text(PROBLEMS)
    return path


def test_a_problem_file_is_counted(capsys: pytest.CaptureFixture[str], problems: Path) -> None:
    assert main(["problems", "inspect", str(problems)]) == 0

    out = capsys.readouterr().out
    assert "2 problems of form gasp, 0 left out" in out
    assert "1 to 1 shown, 1 to 1 hidden" in out
    assert "2024-05-01 to 2024-09-01" in out
    assert "\x1b" not in out


def test_the_counts_are_given_as_json_too(capsys: pytest.CaptureFixture[str], problems: Path) -> None:
    assert main(["problems", "inspect", str(problems), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["problems"], found["usable"], found["excluded"]) == ("gasp", 2, 2, 0)
    assert (found["malformed"], found["first_malformed"]) == (0, None)


def test_a_malformed_row_is_named_after_the_counts_and_is_a_fault_unless_it_is_skipped(
    capsys: pytest.CaptureFixture[str], problems: Path
) -> None:
    problems.write_text(PROBLEMS + '{"id": 7, "public_tests": []}\n')

    assert main(["problems", "inspect", str(problems), "--json"]) == 2
    said = capsys.readouterr()
    assert main(["problems", "inspect", str(problems), "--skip-malformed"]) == 0
    skipping = capsys.readouterr()

    first = {"line": 3, "field": "id", "reason": "Expected `str`, got `int`"}
    assert json.loads(said.out)["first_malformed"] == first
    assert json.loads(said.out)["problems"] == 2
    assert said.err == f"gasp: {problems}:3: id: Expected `str`, got `int`\n"
    assert "malformed  1 row, first line 3: id: Expected `str`, got `int`" in skipping.out
    assert skipping.err == ""


def test_a_problem_file_is_cut_by_date_and_nothing_is_overwritten(problems: Path) -> None:
    out = problems.parent / "parts"
    cut = ["problems", "split", str(problems), "--out", str(out)]

    assert main(cut) == 0
    assert [p.id for p in read_problems(out / "train.jsonl").problems] == ["a"]
    assert [p.id for p in read_problems(out / "validation.jsonl").problems] == ["b"]
    assert {path.name for path in out.iterdir()} == {"train.jsonl", "validation.jsonl"}
    assert main(cut) == 2


def test_without_a_directory_a_split_only_counts(capsys: pytest.CaptureFixture[str], problems: Path) -> None:
    assert main(["problems", "split", str(problems)]) == 0

    assert "train      before 2024-08-01              1  unlike the 601 of the paper\n" in capsys.readouterr().out
    assert [path.name for path in problems.parent.iterdir()] == [problems.name]


def test_at_random_a_problem_goes_the_same_way_whatever_else_is_in_the_file(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "statement": "", "public_tests": [], "hidden_tests": [{"input": "1", "output": "1"}]}
        for n in range(90)
    ]
    for name, kept in (("all", rows), ("half", rows[::2])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, kept)))
        assert (
            main(
                ["problems", "split", str(tmp_path / f"{name}.jsonl"), "--share", "0.3", "--out", str(tmp_path / name)]
            )
            == 0
        )

    chosen = {
        name: {p.id for p in read_problems(tmp_path / name / "validation.jsonl").problems} for name in ("all", "half")
    }
    assert 15 < len(chosen["all"]) < 40
    assert chosen["half"] == {name for name in chosen["all"] if int(name) % 2 == 0}


def test_the_filters_take_the_settings_of_their_runs() -> None:
    command = read(["mine", "micro", "some.jsonl", "--out", "there", "--seeds", "1", "2", "--rlvr.steps", "3"])

    assert isinstance(command, Mine)
    assert isinstance(command.size, Mining)
    assert command.size.seeds == (1, 2)
    assert command.size.rlvr.steps == 3
    assert command.size.azr == filtering(RECIPES["micro-azr"]())


def test_any_models_can_be_named() -> None:
    command = read(
        ["mine", "models", "some.jsonl", "--out", "there", "--models", "runs/a", "http://b/v1#c", "--samples", "9"]
    )

    assert isinstance(command, Mine)
    assert isinstance(command.size, MiningModels)
    assert (command.size.models, command.size.samples) == (("runs/a", "http://b/v1#c"), 9)


BAD_INPUT = [
    (["demo", "--problems.goalposts", "{dir}/none.jsonl"], "{dir}/none.jsonl: cannot be read: No such file or directory"),
    (["demo", "--problems.goalposts", "{dir}/bad.jsonl"], "{dir}/bad.jsonl:1: id: Expected `str`, got `int`"),
    (["demo", "--problems.validation", "{dir}/empty.jsonl"], "{dir}/empty.jsonl: no problem that can be used: it is empty"),
    (["evaluate", "{dir}/untested.jsonl"],
     "{dir}/untested.jsonl: no problem that can be used: all 1 are left out, most for: no tests: any program would pass"),
    (["demo", "--model.path", "{dir}/none"],
     "model.path '{dir}/none' does not exist: give a Hugging Face directory, a GGUF file, or a hub name like owner/model"),
    (["mine", "micro", "{dir}/none.jsonl", "--out", "{dir}/mined"],
     "{dir}/none.jsonl: cannot be read: No such file or directory"),
    (["mine", "micro", "{dir}/mine.jsonl", "--out", "{dir}"], "{dir} holds other files; name a directory that does not exist, or one of gasp mine to go on"),
    (["demo", "--out", "{dir}/bad.jsonl/run"], "{dir}/bad.jsonl/run cannot be created: Not a directory"),
    (["world", "draw", "{dir}/bad.jsonl/world"], "[Errno 20] Not a directory: '{dir}/bad.jsonl/world'"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "line"), BAD_INPUT)
def test_bad_input_is_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, problems: Path, args: list[str], line: str
) -> None:
    folder = problems.parent
    monkeypatch.chdir(folder)
    (folder / "bad.jsonl").write_text('{"id": 1, "public_tests": []}\n')
    (folder / "empty.jsonl").write_text("")
    (folder / "untested.jsonl").write_text('{"id": "a", "statement": "", "public_tests": [], "hidden_tests": []}\n')

    code = main([arg.format(dir=folder) for arg in args])

    assert code == 2
    assert capsys.readouterr().err == f"gasp: {line.format(dir=folder)}\n"
    assert not (folder / "runs").exists()


def test_the_first_free_name_is_taken(tmp_path: Path) -> None:
    assert first_free(tmp_path, "demo") == tmp_path / "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert first_free(tmp_path, "demo") == tmp_path / "demo-3"


def gasp(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gasp_rl.cli", *args],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "src", "COLUMNS": "80"},
    )


def test_help_names_every_command_and_fits_eighty_columns() -> None:
    shown = gasp("--help").stdout

    for command in (
        "demo",
        "train",
        "evaluate",
        "mine",
        "resume",
        "report",
        "export",
        "problems",
        "world",
        "sandbox",
        "doctor",
    ):
        assert f"• {command}" in shown
    assert all(len(line) <= 80 for line in shown.splitlines()[1:])  # the first is one word of all commands


def test_help_and_report_do_not_wait_for_torch(run: Path) -> None:
    code = (
        "import sys; from gasp_rl.cli import main; "
        f"main(['report', {str(run)!r}]); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )

    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": "src"}).returncode
        == 0
    )


def test_the_doctor_says_what_is_here() -> None:
    shown = gasp("doctor").stdout

    assert f"python   {sys.version.split()[0]}" in shown
    assert "torch" in shown
    assert "cores" in shown


@pytest.mark.parametrize(
    ("arms", "line"),
    [
        (["gaps"], "unknown arm gaps; did you mean gasp?"),
        (["mlp"], "unknown arm mlp; there are gasp, azr, azr-paper-reward, "),
        (["gasp", "gasp"], "arms must be one or more, all different, got 'gasp gasp'"),
        (["gasp", "--ks", "50"], "ks must be from 1 to 20, the fewest draws per problem, got (50,)"),
        (["gasp", "--budget", "0"], "budget must be positive, got 0.0"),
        (["gasp", "--problems.train", ""], "problems.train must be a problem file: arms share it, got ''"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused_before_anything_is_done(
    arms: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "micro", *arms, "--out", str(tmp_path / "out")]) == 2

    assert capsys.readouterr().err.startswith(f"gasp: {line}")
    assert not (tmp_path / "out").exists()
