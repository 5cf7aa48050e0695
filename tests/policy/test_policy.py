import pytest

from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.policy import EnginePolicy, RecordingPolicy, prompt_digest
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.rollout import Draws, Message


def echo(prompt: str, place: int, seed: int) -> str:
    return f"{prompt}/{place}/{seed}"


def test_completions_come_with_the_place_of_their_prompt() -> None:
    policy = EnginePolicy(ScriptedEngine(echo))

    answers = dict(policy.sample(["a", "b"], 2, SamplingParams(20), [7, 8]))

    assert [c.text for c in answers[0]] == ["a/0/7", "a/1/7"]
    assert [c.text for c in answers[1]] == ["b/0/8", "b/1/8"]
    assert all(c.finished and c.version == 0 for c in answers[0])


def test_a_completion_that_was_cut_off_says_so() -> None:
    policy = EnginePolicy(ScriptedEngine(echo))

    [(_, [completion])] = policy.sample(["prompt"], 1, SamplingParams(6), [0])

    assert completion.text == "prompt"
    assert not completion.finished
    assert len(completion.tokens) == len(completion.logprobs) == 6


def test_a_stop_string_finishes_a_completion_and_stays_in_it() -> None:
    policy = EnginePolicy(ScriptedEngine(echo))

    [(_, [completion])] = policy.sample(["prompt"], 1, SamplingParams(50, stop=("/0",)), [0])

    assert completion.text == "prompt/0"
    assert completion.finished


def test_a_prompt_with_no_room_for_an_answer_gets_none() -> None:
    policy = EnginePolicy(ScriptedEngine(echo, context=5))

    answers = dict(policy.sample(["abcd", "abcde", "abcdefgh", "a"], 3, SamplingParams(50), [0, 1, 2, 3]))

    assert {place: [c.text for c in completions] for place, completions in answers.items()} == {
        0: ["a"] * 3, 1: [], 2: [], 3: ["a/0/", "a/1/", "a/2/"],
    }  # fmt: skip


def test_sampled_tokens_are_counted_over_calls() -> None:
    policy = EnginePolicy(ScriptedEngine(lambda *_: "four"))

    list(policy.sample(["x"], 3, SamplingParams(50), [0]))
    assert policy.sampled_tokens == 3 * 5  # the end of text is a token too
    list(policy.sample(["x"], 1, SamplingParams(2), [0]))
    assert policy.sampled_tokens == 3 * 5 + 2


def test_messages_go_through_the_chat_template() -> None:
    engine = ScriptedEngine(echo)
    messages = (Message("system", "be brief"), Message("user", "hello"))

    assert (
        engine.tokenizer.decode(EnginePolicy(engine).encode(messages)) == "<system>be brief\n<user>hello\n<assistant>"
    )


def test_every_prompt_needs_a_seed() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(EnginePolicy(ScriptedEngine(echo)).sample(["a", "b"], 1, SamplingParams(2), [0]))


def test_a_recording_policy_keeps_what_it_passed_on_until_it_is_taken() -> None:
    policy = RecordingPolicy(EnginePolicy(ScriptedEngine(echo, context=6)))

    answers = dict(policy.sample(["a", "too long"], 2, SamplingParams(4), [7, 8]))

    assert [c.text for c in answers[0]] == ["a/0/", "a/1/"]
    assert set(policy.take()) == {
        Draws(7, prompt_digest("a"), ("a/0/", "a/1/"), (4, 4), (False, False)),
        Draws(8, prompt_digest("too long"), (), (), ()),
    }
    assert policy.take() == ()
    assert policy.sampled_tokens == 8
