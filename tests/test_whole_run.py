"""A whole run from the command line, with a model that has learned nothing: what it leaves, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import Finished, Stopped, read_journal
from gasp_rl.runs.metrics import read_measurements

pytestmark = pytest.mark.slow

SMALL = [
    "--evaluate.samples", "4", "--evaluate.ks", "1", "4", "--evaluate.validation-problems", "4",
    "--problems.max-goalposts", "3", "--gasp.goalposts-per-step", "3", "--sampling.max-tokens", "24",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's shape and tokenizer, with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - only here, and slow

    from gasp_rl.world import vocabulary  # noqa: PLC0415 - as above

    path = tmp_path_factory.mktemp("model")
    tokenizer = vocabulary.build()
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


GASP = """
import signal
import sys
from gasp_rl.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where it is ignored: in the background
sys.exit(main(sys.argv[1:]))
"""


def start(model: Path, out: Path, steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", GASP, "train", "micro-gasp", "--steps", str(steps), "--out", str(out)]
    return subprocess.Popen(
        [*command, "--model.path", str(model), *SMALL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src", "OMP_WAIT_POLICY": "PASSIVE"},
    )


def wait_for_iterations(run: RunDirectory, count: int, process: subprocess.Popen[str]) -> None:
    while not run.journal.exists() or len(read_journal(run.journal).iterations) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def test_a_run_leaves_a_journal_a_report_metrics_and_a_model_and_an_equal_run_the_same_journal(
    model: Path, tmp_path: Path
) -> None:
    run, again = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "again")

    processes = [start(model, one.root, steps=2) for one in (run, again)]
    (out, err), _ = [process.communicate() for process in processes]

    assert processes[0].returncode == 0, err
    journal = read_journal(run.journal)
    assert journal.ending == Finished()
    assert [i.step for i in journal.iterations] == [1, 2]
    assert "After 2 iterations of micro-gasp none of 3 goalposts has fallen." in out
    assert f"Report: {run.report}" in out
    assert run.report.is_file()
    assert (run.model / "model.safetensors").is_file()
    assert {m.phase for m in read_measurements(run.metrics)} >= {"lemma", "evaluate"}
    assert run.journal.read_bytes() == again.journal.read_bytes()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_are_one_line_that_says_what_is_kept(
    model: Path, tmp_path: Path, how: signal.Signals
) -> None:
    run = RunDirectory(tmp_path / "run")
    process = start(model, run.root, steps=500)
    wait_for_iterations(run, 1, process)

    process.send_signal(how)
    _, err = process.communicate()

    journal = read_journal(run.journal)
    assert process.returncode == 130
    assert isinstance(journal.ending, Stopped)
    assert err.startswith("gasp: interrupted; ")
    assert err.endswith(f"kept in {run.root}: gasp report {run.root} shows them, gasp resume {run.root} goes on\n")
    assert err.count("\n") == 1


def test_after_kill_9_the_report_shows_what_was_done(model: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    process = start(model, run.root, steps=500)
    wait_for_iterations(run, 2, process)

    process.kill()
    process.communicate()
    shown = subprocess.run(
        [sys.executable, "-m", "gasp_rl.cli", "report", str(run.root)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
    ).stdout

    assert "of 500 iterations of micro-gasp are done" in shown
    assert "not finished: still running, or ended without a word" in shown
