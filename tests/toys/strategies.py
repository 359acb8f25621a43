"""Hypothesis strategies for what the whole project speaks of: messages, prompts, demonstrations."""

from __future__ import annotations

from hypothesis import strategies as st

from sft.demonstrations.demonstration import Demonstration, Message, Source, text_fault

#: Any text a demonstration may hold: every script, line separators and NUL, but no lone surrogate, never blank.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(lambda t: not text_fault(t))
#: A few short texts, so that two draws often coincide.
few_texts = st.sampled_from(["hello", "Hello", "hello  there", "good bye", "2 + 3", "naïve", "你好", "a\u2028b"])

#: What is no text of a demonstration: blank, no text at all, or half an emoji.
nonsense = st.one_of(
    st.sampled_from(["", " ", "\n\t", "\u200b", "\u00a0\u2003", "\x00", "\ud83d", "a\udc00"]),
    st.none(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.binary(max_size=3),
    st.lists(st.text(max_size=3), max_size=2),
)


def messages(role: str, contents: st.SearchStrategy[str] = texts) -> st.SearchStrategy[Message]:
    """A message of one role."""
    return st.builds(Message, st.just(role), contents)


@st.composite
def prompts(draw: st.DrawFn, contents: st.SearchStrategy[str] = texts, turns: int = 3) -> tuple[Message, ...]:
    """A valid prompt: perhaps a system message, then 1 to ``turns`` user turns with the assistant's between them."""
    prompt = [draw(messages("system", contents))] if draw(st.booleans()) else []
    prompt.append(draw(messages("user", contents)))
    for _ in range(draw(st.integers(0, turns - 1))):
        prompt += [draw(messages("assistant", contents)), draw(messages("user", contents))]
    return tuple(prompt)


@st.composite
def demonstrations(draw: st.DrawFn, contents: st.SearchStrategy[str] = texts, turns: int = 3) -> Demonstration:
    """A valid demonstration; group and id are sometimes given and mostly left to the content."""
    return Demonstration(
        prompt=draw(prompts(contents, turns)),
        completion=draw(contents),
        id=draw(st.just("") | texts),
        group=draw(st.just("") | st.sampled_from(["g1", "g2", "g3"])),
        expert=draw(st.sampled_from(["", "ann", "bob"])),
        source=draw(st.none() | st.builds(Source, st.just("x.jsonl"), st.integers(1, 10**6))),
        references=draw(st.lists(contents, max_size=2).map(tuple)),
    )
