"""What the loop tells whoever watches. Nothing comes back, so a watcher cannot change what is computed."""

from collections.abc import Sequence
from typing import Protocol

from gasp_rl.rollout import Answer, Evaluation, Iteration, Proposal

UPDATE = "update"
PUBLISH = "publish"
"""Details of a phase."""


class Observer(Protocol):
    """Called often and from one thread: implementations must be cheap."""

    def iteration(self, step: int, steps: int) -> None:
        """Iteration `step` of `steps` begins (the first is 1); 0 steps: nobody knows yet how many a budget will pay for."""
        ...

    def phase(self, name: str, detail: str = "") -> None:
        """A phase of the iteration, or a stage outside it, begins: `lemma`, `lift`, `practice`, `evaluate`, ...

        Detail UPDATE: what it sampled is learned from now. PUBLISH: that is done, and whatever samples gets the new weights.
        """
        ...

    def progress(self, done: int, total: int) -> None:
        """So many of the prompts that are being sampled together have all their completions; the model goes on."""
        ...

    def sampling(self, prompt: int, tokens: int, longest: int) -> None:
        """A prompt of so many tokens, 0 where nobody counts them, was answered with so many, so many in its longest
        completion, and the model rests until `progress` is next told.
        """
        ...

    def learning(self, tokens: int) -> None:
        """The update runs over so many tokens, those of prompts included."""
        ...

    def executed(self, cpu_seconds: float) -> None:
        """A program was run, in a process that used so much."""
        ...

    def proposal(self, proposal: Proposal) -> None:
        """A proposal was accepted or rejected; its pass rate and reward are known."""
        ...

    def answer(self, answer: Answer) -> None:
        """The student's answer was judged."""
        ...

    def iterated(self, iteration: Iteration) -> None:
        """The iteration is over and in the journal."""
        ...

    def evaluation(self, evaluation: Evaluation) -> None:
        """One was made; or, before anything else is told, one of the run that is gone on with."""
        ...

    def signal(self, name: str, value: float, alarm: str) -> None:
        """A signal of the run's health was read; the alarm says in words that it is where it should not be, if it is."""
        ...

    def note(self, text: str) -> None:
        """Something a person should know, in one line."""
        ...


class Silent:
    """The observer that looks away."""

    def iteration(self, step: int, steps: int) -> None:
        pass

    def phase(self, name: str, detail: str = "") -> None:
        pass

    def progress(self, done: int, total: int) -> None:
        pass

    def sampling(self, prompt: int, tokens: int, longest: int) -> None:
        pass

    def learning(self, tokens: int) -> None:
        pass

    def executed(self, cpu_seconds: float) -> None:
        pass

    def proposal(self, proposal: Proposal) -> None:
        pass

    def answer(self, answer: Answer) -> None:
        pass

    def iterated(self, iteration: Iteration) -> None:
        pass

    def evaluation(self, evaluation: Evaluation) -> None:
        pass

    def signal(self, name: str, value: float, alarm: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Several:
    """Tells every one of several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def iteration(self, step: int, steps: int) -> None:
        for observer in self._observers:
            observer.iteration(step, steps)

    def phase(self, name: str, detail: str = "") -> None:
        for observer in self._observers:
            observer.phase(name, detail)

    def progress(self, done: int, total: int) -> None:
        for observer in self._observers:
            observer.progress(done, total)

    def sampling(self, prompt: int, tokens: int, longest: int) -> None:
        for observer in self._observers:
            observer.sampling(prompt, tokens, longest)

    def learning(self, tokens: int) -> None:
        for observer in self._observers:
            observer.learning(tokens)

    def executed(self, cpu_seconds: float) -> None:
        for observer in self._observers:
            observer.executed(cpu_seconds)

    def proposal(self, proposal: Proposal) -> None:
        for observer in self._observers:
            observer.proposal(proposal)

    def answer(self, answer: Answer) -> None:
        for observer in self._observers:
            observer.answer(answer)

    def iterated(self, iteration: Iteration) -> None:
        for observer in self._observers:
            observer.iterated(iteration)

    def evaluation(self, evaluation: Evaluation) -> None:
        for observer in self._observers:
            observer.evaluation(evaluation)

    def signal(self, name: str, value: float, alarm: str) -> None:
        for observer in self._observers:
            observer.signal(name, value, alarm)

    def note(self, text: str) -> None:
        for observer in self._observers:
            observer.note(text)
