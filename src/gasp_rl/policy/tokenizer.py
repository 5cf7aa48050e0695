"""The Tokenizer protocol over a `transformers` fast tokenizer."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from gasp_rl.errors import ModelError


class HfTokenizer:
    """Text to tokens and back, as the model's own tokenizer does it, with nothing added or cleaned up."""

    def __init__(self, inner: PreTrainedTokenizerBase, more_eos: Sequence[int] = ()) -> None:
        """`more_eos`: further tokens that end a text (a chat model often has two)."""
        if inner.eos_token_id is None:
            raise ModelError(f"tokenizer {inner.name_or_path!r} has no end-of-text token: set eos_token in its "
                             "tokenizer_config.json")  # fmt: skip
        self.inner = inner
        self.eos = int(inner.eos_token_id)
        self.all_eos = frozenset({self.eos, *more_eos})

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.inner.encode(text, add_special_tokens=False, verbose=False))

    def chat(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        if not self.inner.chat_template:
            raise ModelError(f"model {self.inner.name_or_path!r} has no chat template: choose an instruct model, "
                             "or the prompt set model.prompts=micro")  # fmt: skip
        turns = [{"role": role, "content": content} for role, content in messages]
        begun = messages[-1][0] == "assistant"
        text = self.inner.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun
        )
        return self.encode(str(text))

    def decode(self, tokens: Sequence[int]) -> str:
        kept = [token for token in tokens if token not in self.all_eos]
        return str(self.inner.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))
