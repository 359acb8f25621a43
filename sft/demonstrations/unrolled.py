"""The demonstrations of one dialogue: one for every turn of the expert's, after all that was said before it.

Every prompt begins with the one before, so their keys and ids are worked out in one walk: a turn is looked at once. (An
id is a hash in which the prompt stands behind the completion, so a prompt is hashed again for each; nothing else is.)
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from sft.demonstrations.demonstration import Demonstration, Origin, Source, canonical_turn
from sft.demonstrations.messages import Message, keyed_turn, out_of_order

__all__ = ["unrolled"]


def unrolled(
    pairs: Sequence[tuple[tuple[Message, ...], Message]],
    *,
    group: str,
    expert: str,
    source: Source,
    references: tuple[str, ...] = (),
    origin: Origin | None = None,
) -> list[Demonstration]:
    """(prompt, the expert's turn) each as a demonstration; every prompt begins with the one before it.

    Raises ``ValueError`` as the constructor does, where a prompt is none.
    """
    if len(pairs) < 2 or _is_out_of_order(pairs):
        return [
            Demonstration(prompt, turn.text, "", group, expert, source, references, turn.thought, turn.calls, origin)
            for prompt, turn in pairs
        ]
    made = []
    key, turns, ends, seen = blake2b(b"[", digest_size=16), bytearray(), 0, False
    for prompt, turn in pairs:
        for message in prompt[ends:]:
            turns += b"," * (ends > 0) + canonical_turn(message).encode("utf-8")
            ends += 1
            if message.role != "thought":
                key.update(b"," * seen + keyed_turn(message).encode("utf-8"))
                seen = True
        whole = key.copy()
        whole.update(b"]")
        found = Demonstration.of_sound_turns(
            prompt, turn, group=group, expert=expert, source=source, references=references, origin=origin
        )
        before, after = found.around_prompt()
        content = blake2b(before.encode("utf-8"), digest_size=16)
        content.update(turns)
        content.update(after.encode("utf-8"))
        made.append(found.settled(whole.hexdigest(), content.hexdigest()))
    return made


def _is_out_of_order(pairs: Sequence[tuple[tuple[Message, ...], Message]]) -> bool:
    longest = pairs[-1][0]
    found = out_of_order(longest)
    return found is not None or any(prompt[-1].role not in ("user", "tool") for prompt, _ in pairs)
