"""Breaking numbers down, and measuring whatever can be named."""

import json
import shutil
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from gasp_rl.build import run_recipe
from gasp_rl.config import EndpointConfig, ModelConfig, ReadingConfig, SamplingConfig, SandboxConfig
from gasp_rl.errors import InputError, ModelError, ProblemFileError
from gasp_rl.evaluate import Attempt
from gasp_rl.measure import Question, chosen, measure, strata
from gasp_rl.problem import Problem, TestCase
from gasp_rl.progress import Silent
from gasp_rl.recipes import micro, rlvr
from gasp_rl.rollout import Evaluation, ProblemScore
from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.results import ProblemFacts, Results, read_results, write_results
from gasp_rl.subject import locate, open_subject

FACTS = [
    ProblemFacts("a", "hard", "2024-07-31T23:59:59"),
    ProblemFacts("b", "easy", "2024-08-01"),
    ProblemFacts("c", "medium", "2024-09-30T23:59:59"),
    ProblemFacts("d", "easy", "2024-10-01"),
    ProblemFacts("e", "", ""),
]
DRAWN = Evaluation(0, "test", 0.6, tuple(
    ProblemScore(name, 20, passes, passes) for name, passes in zip("abcde", (0, 20, 10, 1, 0), strict=True)
))  # fmt: skip


def rows(by: str, edges: tuple[str, ...] = ()) -> dict[str, tuple[int, int, float]]:
    """name -> problems, solved, pass@1 in per cent"""
    found = strata(FACTS, DRAWN, None, edges)
    return {one.name: (one.problems, one.solved, round(100 * one.rates[0].mean, 3)) for one in found if one.by == by}


def test_difficulties_come_in_their_order_and_what_is_not_given_last() -> None:
    assert list(rows("difficulty").items()) == [
        ("easy", (2, 2, 52.5)),
        ("medium", (1, 1, 50)),
        ("hard", (1, 0, 0)),
        ("not given", (1, 0, 0)),
    ]


def test_difficulties_with_numbers_come_by_number() -> None:
    facts = [ProblemFacts(str(n), f"depth-{n}") for n in (10, 9, 1)]
    scores = Evaluation(0, "test", 0.6, tuple(ProblemScore(str(n), 1, 0, 0) for n in (10, 9, 1)))

    assert [one.name for one in strata(facts, scores, None, ()) if one.by == "difficulty"] == [
        "depth-1",
        "depth-9",
        "depth-10",
    ]


def test_months_are_those_of_the_dates() -> None:
    assert list(rows("month")) == ["2024-07", "2024-08", "2024-09", "2024-10", "not given"]


def test_windows_are_half_open_to_the_second() -> None:
    found = rows("window", ("2024-08-01", "2024-10-01"))

    assert list(found) == ["before 2024-08-01", "2024-08-01 to before 2024-10-01", "2024-10-01 and later", "not given"]
    assert [problems for problems, _, _ in found.values()] == [1, 2, 1, 1]


def test_a_breakdown_into_one_part_is_left_out() -> None:
    facts = [replace(one, difficulty="easy", date="") for one in FACTS]

    assert [one.by for one in strata(facts, DRAWN, None, ())] == ["all"]


def test_pass_at_k_is_given_for_every_usual_k_that_was_drawn() -> None:
    (whole, *_) = strata(FACTS, DRAWN, None, ())

    assert [rate.k for rate in whole.rates] == [1, 5, 10, 20]
    assert all(rate.low <= rate.mean <= rate.high for rate in whole.rates)
    assert whole.rates[-1].mean == pytest.approx(3 / 5)


def test_a_problem_with_too_few_samples_is_left_out_of_the_mean_and_not_counted() -> None:
    scores = (*DRAWN.scores[:4], ProblemScore("e", 0, 0, 0))

    (whole, *_) = strata(FACTS, replace(DRAWN, scores=scores), None, ())

    assert {rate.problems for rate in whole.rates} == {4}
    assert whole.rates[0].mean == pytest.approx(31 / 80)


def test_the_greedy_answer_has_a_rate_of_its_own() -> None:
    greedy = Evaluation(0, "test", 0.0, tuple(ProblemScore(name, 1, name == "b", name == "b") for name in "abcde"))

    (both, *_), (alone, *_) = strata(FACTS, DRAWN, greedy, ()), strata(FACTS, None, greedy, ())

    assert both.greedy is not None
    assert both.greedy.mean == pytest.approx(0.2)
    assert both.solved == 3
    assert alone.greedy == both.greedy
    assert (alone.rates, alone.solved) == ((), 1)


def dated(*dates: str) -> list[Problem]:
    return [Problem(date, "", (), (TestCase("1", "1"),), date=date) for date in dates]


def test_problems_are_chosen_by_half_open_dates() -> None:
    problems = dated("2024-07-31", "2024-08-01", "2024-09-30T23:59:59", "2024-10-01", "")

    assert [p.date for p in chosen(problems, "2024-08-01", "2024-10-01")] == ["2024-08-01", "2024-09-30T23:59:59"]
    assert [p.date for p in chosen(problems, "", "2024-08-01")] == ["2024-07-31"]
    assert len(chosen(problems, "", "")) == 5


def test_an_empty_window_is_refused_with_the_dates_that_there_are() -> None:
    with pytest.raises(
        ProblemFileError, match="no problem is from 2030-01-01 to before the end: of 2 problems their dates are"
    ):
        chosen(dated("2024-07-31", "2024-08-01"), "2030-01-01", "")
    with pytest.raises(ProblemFileError, match="none has a date"):
        chosen(dated(""), "2030-01-01", "")


QUESTION = Question(
    "", "test", "", "", (), 2, greedy=True, seed=0, sampling=SamplingConfig(0.6, 60), reading=ReadingConfig()
)


def ask(problems: Path, path: str, answers: list[tuple[str, Attempt]] | None = None) -> Results:
    told = [] if answers is None else answers
    return measure(
        replace(QUESTION, problems=str(problems)), ModelConfig(path=path, prompts="auto"), EndpointConfig(), SandboxConfig(),
        Silent(), lambda run, attempt: told.append((run, attempt)),
    )  # fmt: skip


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "three.jsonl"
    shipped = Path("src/gasp_rl/data/microcode/test.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(shipped[:3]))
    return path


@pytest.mark.slow
def test_results_say_everything_that_is_needed_to_take_them_again(problems: Path, tmp_path: Path) -> None:
    answers: list[tuple[str, Attempt]] = []

    first, second = ask(problems, "micro", answers), ask(problems, "micro")
    write_results(tmp_path / "results.json", first)

    assert first == second
    assert read_results(tmp_path / "results.json") == first
    assert (first.model.digest, first.prompts.name, first.isolation[0]) == (second.model.digest, "micro", "L")
    assert first.drawn is not None
    assert first.greedy is not None
    assert [score.samples for score in first.drawn.scores] == [2, 2, 2]
    assert [score.samples for score in first.greedy.scores] == [1, 1, 1]
    assert first.drawn.sampled_tokens == sum(score.tokens for score in first.drawn.scores) > 0
    assert sorted(run for run, _ in answers) == ["drawn"] * 6 + ["greedy"] * 3


@pytest.mark.slow
def test_a_run_its_model_its_checkpoint_and_its_export_can_all_be_asked(problems: Path, tmp_path: Path) -> None:
    config = micro(rlvr())
    assert config.rlvr is not None
    small = replace(
        config, steps=1, matched_draws=False, rlvr=replace(config.rlvr, problems_per_step=2, group_size=2),
        evaluate=replace(config.evaluate, at_start=False, samples=1, ks=(1,), validation_problems=1),
        problems=replace(config.problems, goalposts=""),
    )  # fmt: skip
    run = run_recipe(small, tmp_path / "run", Silent())
    shutil.copytree(run.model, tmp_path / "exported")

    asked = [run.root, run.model, run.checkpoints / "000001", tmp_path / "exported"]
    found = [ask(problems, str(path)) for path in asked]

    assert len({one.model.digest for one in found}) == 1
    assert {one.prompts.name for one in found} == {"micro"}
    assert [one.model.step for one in found] == [1, 1, 1, 0]
    shutil.rmtree(run.model)
    assert ask(problems, str(run.root)).model.weights == str(run.checkpoints / "000001")


def test_a_run_that_has_nothing_yet_and_a_damaged_checkpoint_are_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.journal.write_bytes(b"")
    run.config.write_bytes(msgspec.json.encode(micro(rlvr())))
    (run.checkpoints / "000003").mkdir(parents=True)

    with pytest.raises(ModelError, match="is a run without a trained model or a whole checkpoint yet"):
        locate(str(run.root))
    with pytest.raises(ModelError, match="has no seal that can be read: name another checkpoint of"):
        locate(str(run.checkpoints / "000003"))


def test_an_endpoint_is_opened_by_its_url_and_asked_as_a_chat() -> None:
    config = ModelConfig(path="http://localhost:1/v1#tiny", prompts="auto")

    with open_subject(config, EndpointConfig(), Silent()) as subject:
        assert subject.facts.weights == "http://localhost:1/v1#tiny"
        assert subject.facts.digest == ""
        assert subject.prompts.name == "chat"


@pytest.mark.slow
def test_a_model_behind_an_endpoint_is_measured_like_any_other(problems: Path) -> None:
    """The server solves the second problem only, every other time, and is cut off on the third."""
    rows = [json.loads(line) for line in problems.read_bytes().splitlines()]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = asked["messages"][-1]["content"]
            place = next(place for place, row in enumerate(rows) if row["statement"] in text)
            right = place == 1 and asked["seed"] % 2 == 0
            said = f"Here:\n```python\n{rows[1]['reference']}\n```" if right else "I think"
            body = json.dumps({
                "choices": [{"message": {"content": said}, "finish_reason": "length" if place == 2 else "stop"}],
                "usage": {"completion_tokens": 5},
            }).encode()  # fmt: skip
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        found = ask(problems, f"http://127.0.0.1:{server.server_address[1]}/v1#tiny")
        server.shutdown()
        thread.join()

    assert found.drawn is not None
    assert [(s.samples, s.passes, s.confirmed, s.truncated, s.unreadable, s.tokens) for s in found.drawn.scores] == [
        (2, 0, 0, 0, 2, 10),
        (2, 1, 1, 0, 1, 10),
        (2, 0, 0, 2, 2, 10),
    ]
    assert found.prompts.name == "chat"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "holds no results of gasp evaluate"),
        ("{", "holds no results of gasp evaluate"),
        ('{"schema": 99}', "holds no results of gasp evaluate"),
    ],
)
def test_what_is_no_results_file_is_named(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "results.json").write_text(text)

    with pytest.raises(InputError, match=line):
        read_results(tmp_path / "results.json")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_results(tmp_path / "none.json")


def test_results_of_a_newer_schema_are_refused(problems: Path, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, msgspec.convert(EMPTY, Results))
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row | {"schema": 99}))

    with pytest.raises(InputError, match="has schema 99, this gasp-rl reads 1: use a newer one"):
        read_results(path)


EMPTY = {
    "schema": 1, "package": "0", "model": {"path": "m", "weights": "m"}, "prompts": {"name": "p", "digest": ""},
    "problems": {"name": "", "split": "", "digest": "", "problems": []}, "sampling": {}, "samples": 1, "seed": 0,
    "grading": {}, "isolation": "L4", "level": 0.95, "strata": [], "drawn": None, "greedy": None,
}  # fmt: skip
