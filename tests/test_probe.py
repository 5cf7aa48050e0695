"""A probe of a model: which phases there are, where each begins, and what is said about them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gasp_rl.cli import main
from gasp_rl.config import LEMMA, LIFT, FirewallConfig, GaspConfig, RunConfig, StudentRewards
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.probe import Probed, play
from gasp_rl.problem import Problem
from gasp_rl.progress import Silent
from gasp_rl.recipes import gasp
from gasp_rl.report.probed import examples, probed
from gasp_rl.rollout import Answer, Axis, Judgement, Kind, Phase, Proposal, Rejection
from gasp_rl.runs.results import ModelFacts, PromptFacts
from gasp_rl.sandbox.base import Execution, Job, Result, Status
from gasp_rl.sandbox.scripted import ScriptedSandbox
from gasp_rl.selfplay.firewall import Firewall
from gasp_rl.selfplay.novelty import HashedEmbedder, NoveltyArchive
from gasp_rl.selfplay.prompts.chat import CHAT
from gasp_rl.selfplay.student import Student
from gasp_rl.selfplay.teacher import Teacher

GOALPOSTS = [Problem(f"goal{i}", f"Statement {i}.", (), ()) for i in range(3)]
CFG = GaspConfig(pairs=2, public_pairs=1, tries=2, tries_per_round=1)


def proposal(program: str) -> str:
    """How a reply goes on that was begun."""
    return f" an integer x, do it.\n# f(1)\n# f(2)\n{program}\n```"


def run_by_heart(job: Job) -> Execution:
    return Execution(Status.OK, tuple(Result(Status.OK, str(len(job.source) + int(text))) for text in job.inputs))


def phases(reply: object, cfg: GaspConfig = CFG) -> list[Probed]:
    """`reply` says what is written by a prompt's last message."""
    assert callable(reply)
    policy, params, observer = EnginePolicy(ScriptedEngine(reply)), SamplingParams(200), Silent()
    sandbox = ScriptedSandbox(run_by_heart)
    student = Student(policy, sandbox, CHAT, params, observer)
    archive = NoveltyArchive(HashedEmbedder(), cfg.novelty)
    wall = Firewall((), sandbox, HashedEmbedder(), FirewallConfig())
    teacher = Teacher(policy, sandbox, CHAT, params, archive, wall, student, StudentRewards(), observer)
    return list(play(teacher, student, GOALPOSTS, cfg, 0, observer))


def teacher_and_student(prompt: str, sample: int, seed: int) -> str:
    if "write short Python exercises" in prompt:  # the teacher's; a program of its own for each prompt
        body = "".join(f"    x += {n}\n" for n in range(2 + seed % 5))
        return proposal(f"def f(x):\n{body}    return x * {seed}")
    return "```python\ndef f(x):\n    return x\n```"


def test_every_goalpost_is_asked_about_on_every_axis_and_nothing_is_tried_again() -> None:
    lemma, _, _ = phases(lambda *_: "nothing")

    asked = [(p.goalpost, p.axis) for p in lemma.phase.proposals]
    assert asked == [(goalpost.id, axis) for goalpost in GOALPOSTS for axis in (Axis.IO, Axis.F)]
    assert {p.rejection for p in lemma.phase.proposals} == {Rejection.MALFORMED}
    assert len(lemma.asked) == len(asked)


def test_where_nothing_runs_nothing_is_lifted_or_answered() -> None:
    _, lift, practice = phases(lambda *_: "nothing")

    assert (lift.phase.proposals, practice.phase.answers) == ((), ())


def test_lifts_start_from_lemmas_that_merely_run_and_every_program_is_asked_about() -> None:
    lemma, lift, practice = phases(teacher_and_student)

    ran = {p.id for p in lemma.phase.proposals if p.rejection is not Rejection.MALFORMED}
    assert ran
    assert not any(p.accepted for p in lemma.phase.proposals)
    assert {p.parent for p in lift.phase.proposals} == ran
    for p in lift.phase.proposals:
        assert p.axis == next(one.axis for one in lemma.phase.proposals if one.id == p.parent)
    running = [p.id for one in (lemma, lift) for p in one.phase.proposals if p.rejection is not Rejection.MALFORMED]
    assert sorted(a.source for a in practice.phase.answers) == sorted(running * 2)
    assert {a.kind for a in practice.phase.answers} == {Kind.DEDUCTION, Kind.ABDUCTION}


def test_so_many_proposals_are_written_of_each() -> None:
    lemma, *_ = phases(lambda *_: "nothing", replace(CFG, tries_per_round=3))

    assert len(lemma.phase.proposals) == len(lemma.asked) == 3 * 2 * len(GOALPOSTS)


def written(rejection: Rejection | None, detail: str = "", axis: Axis = Axis.F, passes: int = 0) -> Proposal:
    tries = 10 if rejection in {None, Rejection.TOO_EASY, Rejection.TOO_HARD} else 0
    return Proposal(
        "id", "lemma", "as written", axis, "goal", rejection=rejection, detail=detail, passes=passes, tries=tries,
        tokens=50,
    )  # fmt: skip


LEMMAS = (
    written(Rejection.MALFORMED, "too few different inputs: 2 of 5"),
    written(Rejection.MALFORMED, "too few different inputs: 3 of 5; not Python literals: 'x'", Axis.IO),
    written(Rejection.MALFORMED, "the program does not parse: line 1: expected ':'"),
    written(Rejection.INVALID, "exception: ZeroDivisionError: division by zero"),
    written(Rejection.TOO_EASY, "10 of 10 solved it", passes=10),
    written(None, passes=4),
)
RUN = replace(gasp(), gasp=GaspConfig(ladder=(LEMMA, LIFT)))


def said(found: Sequence[Phase], run: RunConfig = RUN) -> str:
    assert run.gasp is not None
    return probed(ModelFacts("models/tiny", "w"), PromptFacts("chat", "0123456789"), run, run.gasp, 3, found)


def test_the_table_counts_what_is_left_after_each_check_and_says_why() -> None:
    lines = said([Phase("lemma", LEMMAS)]).split("\n")

    assert lines[0].startswith("tiny, prompts chat (01234567), 3 goalposts, 5 pairs of which 2 are shown")
    table = {line.split("  ")[0]: line.split()[-3:] for line in lines}
    assert table["written"][-1] == "6"
    assert table["could be read"][-3:] == ["50%", "[19,", "81]"]
    assert table["accepted, solved by 3 to 7 of 10"][-3] == "17%"
    assert "  malformed: 2 too few different inputs; 1 the program does not parse" in lines
    assert "  invalid: 1 ZeroDivisionError" in lines
    assert "  by how many of 10 tries solved: 4: 1, 10: 1" in lines
    assert lines[-3].startswith("no program ran")


def test_replies_that_were_cut_off_are_counted() -> None:
    short = replace(RUN, sampling=replace(RUN.sampling, max_tokens=50))

    assert "2 too few different inputs; 1 the program does not parse (3 of them cut off)" in said(
        [Phase("lemma", LEMMAS)], short
    )


def test_answers_are_counted_by_kind_and_faults_of_ours_left_out() -> None:
    judged = (Judgement.CORRECT, Judgement.WRONG, Judgement.MALFORMED, Judgement.SANDBOX_FAULT)
    answers = tuple(Answer(Kind.DEDUCTION, "id", "", judgement, "", 0.0) for judgement in judged)

    line = next(line for line in said([Phase("practice", answers=answers)]).split("\n") if line.startswith("deduction"))
    assert line.split()[:4] == ["deduction", "3", "2", "="]
    assert "67%" in line
    assert "33%" in line


def test_one_reply_of_each_outcome_is_shown() -> None:
    shown = examples([Phase("lemma", LEMMAS)], 1)

    assert shown.count("as written") == 4
    assert "=== lemma of goal, axis f: accepted, 4 of 10 solved it\nas written" in shown
    assert examples([Phase("lemma", LEMMAS)], 0) == ""


@pytest.mark.slow
def test_the_embedded_model_can_be_probed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "written.jsonl"

    assert main(["probe", "micro-gasp", "--goalposts", "2", "--gasp.tries", "2", "--out", str(out)]) == 0

    printed = capsys.readouterr().out
    assert "could be read" in printed
    assert str(out) in printed
    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [line["phase"] for line in lines if "proposal" in line].count("lemma") == 2 * 2 * 2
    assert all(line["prompt"] for line in lines if "proposal" in line)
    assert any("answer" in line for line in lines)


def test_a_file_that_exists_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "written.jsonl"
    out.write_text("mine")

    assert main(["probe", "micro-gasp", "--out", str(out)]) == 2

    assert "exists; name a file that does not" in capsys.readouterr().err
    assert out.read_text() == "mine"
