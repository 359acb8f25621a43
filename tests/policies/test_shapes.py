"""Calls, thoughts and special tokens: what templates make of them is supervised, and read back as it was meant."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
import pytest

pytestmark = pytest.mark.engine
pytest.importorskip("transformers")

from small_tokenizers import CHATML, byte_level, chatml, trl_template
from transformers import PreTrainedTokenizerFast
from weather_tool import ROME, TOOL, TOOLS

from sft.demonstrations.demonstration import Call, Demonstration, Message, Source
from sft.demonstrations.messages import written_calls
from sft.errors import DemonstrationsError, PolicyError
from sft.policies.rendering import Renderer, few_shot_prompt, renderer_for
from sft.policies.streamed import StreamedAnswer
from sft.policies.template_lists import with_assignments

USER = Message("user", "How are you?")
CALLING = Message("assistant", "", calls=(ROME,))
RESULT = Message("tool", "24 C", name="weather")
_TOKEN = re.compile(
    r"<\|[^|<>\s]+\|>|<｜[^｜<>\s]+｜>|\[/?[A-Z_]{3,20}\]|</?(?:think|tool_call|tool_response)>|<[|]?[a-z_]+[|]?>"
)
_ORDINARY = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")


@cache
def state(name: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """A template that TRL ships, and the tokens it writes: special ones and ordinary ones."""
    text = trl_template(name)
    found = [token for token in dict.fromkeys(_TOKEN.findall(text)) if "arg_" not in token and "func" not in token]
    special = [t for t in found if t not in (*_ORDINARY, "<bos>", "<eos>") and ("|" in t or t.startswith("["))]
    return text, ("<bos>", "<eos>", *special), tuple(token for token in found if token in _ORDINARY)


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    text, special, ordinary = state(name)
    return byte_level(text, special, bos="<bos>", eos="<eos>", ordinary=ordinary)


def answer(
    said: str = "", *calls: Call, thought: str = "", prompt: tuple[Message, ...] = (TOOLS, USER)
) -> Demonstration:
    return Demonstration(prompt, written_calls(said, calls), thought=thought, calls=calls, source=Source("d.jsonl", 7))


def supervised(renderer: Renderer, demonstration: Demonstration) -> tuple[str, str]:
    """(end of the prompt, all that is supervised) as text; what is read back is what was meant, and stops once."""
    row = renderer.render(demonstration)
    assert list(row.prompt_ids) == renderer.prompt_ids(demonstration.prompt)
    assert row.completion_ids[-1] in renderer.stop_token_ids
    assert not set(row.completion_ids[:-1]) & set(renderer.stop_token_ids)
    assert row.input_ids.count(renderer.tokenizer.bos_token_id) <= 1
    read = renderer.answers.read(row.completion_ids, calls=True, tools=[TOOL])
    assert read == (demonstration.completion, demonstration.thought)
    texts = [renderer.tokenizer.decode(ids) for ids in (row.prompt_ids, row.completion_ids)]
    assert (texts[0][-60:] + texts[1]).count("<think>") <= 1
    return texts[0][-60:], texts[1]


# -- calls ------------------------------------------------------------------------------------------------

JSON_CALL = '{"name": "weather", "arguments": {"days": 3, "town": "Rome é"}}'
HERMES = f"<tool_call>\n{JSON_CALL}\n</tool_call><|im_end|>"
XML = (
    "<tool_call>\n<function=weather>\n<parameter=days>\n3\n</parameter>\n<parameter=town>\nRome é\n</parameter>\n"
    "</function>\n</tool_call>"
)
#: Template -> what is supervised of a call, and what of the same after a thought.
CALLS = {
    "qwen2_5": (HERMES, f"<think>\nhm\n</think>\n\n\n{HERMES}"),
    "qwen3": (HERMES, f"<think>\nhm\n</think>\n\n{HERMES}"),
    "qwen3_5_think": (f"{XML}<|im_end|>", f"hm\n</think>\n\n{XML}<|im_end|>"),
    "llama3_1": (
        '{"name": "weather", "parameters": {"days": 3, "town": "Rome é"}}<|eot_id|>',
        '<think>\nhm\n</think>\n\n{"name": "weather", "parameters": {"days": 3, "town": "Rome é"}}<|eot_id|>',
    ),
    "gptoss": (
        ' to=functions.weather<|channel|>commentary json<|message|>{"days": 3, "town": "Rome é"}<|call|>',
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant to=functions.weather<|channel|>commentary json"
        '<|message|>{"days": 3, "town": "Rome é"}<|call|>',
    ),
    "glm4moe": (
        "\n<tool_call>weather\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n<arg_key>town</arg_key>\n"
        "<arg_value>Rome é</arg_value>\n</tool_call><eos>",
        "\n<think>hm</think>\n<tool_call>weather\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n"
        "<arg_key>town</arg_key>\n<arg_value>Rome é</arg_value>\n</tool_call><eos>",
    ),
    "gemma4_v5": (
        '<|tool_call>call:weather{days:3,town:<|"|>Rome é<|"|>}<tool_call|><|tool_response>',
        '<|channel>thought\nhm\n<channel|><|tool_call>call:weather{days:3,town:<|"|>Rome é<|"|>}<tool_call|>'
        "<|tool_response>",
    ),
    "lfm2_2_5": (
        "<|tool_call_start|>[weather(days=3, town='Rome é')]<|tool_call_end|><|im_end|>",
        "<think>hm</think><|tool_call_start|>[weather(days=3, town='Rome é')]<|tool_call_end|><|im_end|>",
    ),
    "nemotron_3_nano": (f"\n{XML}\n<|im_end|>", f"hm\n</think>\n{XML}\n<|im_end|>"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_supervised_as_the_template_writes_it_and_nothing_else(name: str) -> None:
    off, keep = renderer_for(tokenizer_of(name)), renderer_for(tokenizer_of(name), thoughts="keep")
    assert supervised(off, answer("", ROME))[1] == CALLS[name][0]
    assert supervised(keep, answer("", ROME, thought="hm"))[1] == CALLS[name][1]
    for renderer, thought in ((off, ""), (keep, "hm")):
        after = answer("It is 24 é.\n ", thought=thought, prompt=(TOOLS, USER, CALLING, RESULT))
        _, said = supervised(renderer, after)
        assert "It is 24 é.\n " in said and "24 C" not in said
        assert "24 C" in renderer.tokenizer.decode(renderer.prompt_ids(after.prompt))
        supervised(renderer, answer("No.", thought=thought))


def test_words_beside_a_call_and_several_calls_are_kept_or_refused_in_one_sentence() -> None:
    qwen, llama = renderer_for(tokenizer_of("qwen3")), renderer_for(tokenizer_of("llama3_1"))
    assert supervised(qwen, answer("Let me look.", ROME))[1] == f"Let me look.\n{HERMES}"
    assert supervised(qwen, answer("", ROME, ROME))[1].count("<tool_call>") == 2
    for refused, why in (
        (answer("Let me look.", ROME), "it writes no words before a call; leave them out, or the call"),
        (answer("", ROME, ROME), "it writes one call in a turn; write the calls in turns of their own"),
    ):
        with pytest.raises(DemonstrationsError, match=re.escape(why)) as caught:
            llama.render(refused)
        assert (caught.value.problems[0].path, caught.value.problems[0].line) == ("d.jsonl", 7)


@pytest.mark.parametrize("name", ["phi3", "gemma3", "cohere2"])
def test_a_template_without_tools_is_one_sentence(name: str) -> None:
    renderer = renderer_for(tokenizer_of(name))
    for row in (answer("", ROME, prompt=(USER,)), answer("No."), answer("It.", prompt=(USER, CALLING, RESULT))):
        with pytest.raises(PolicyError) as caught:
            renderer.render_all([row] * 3)
        assert str(caught.value) == (
            "d.jsonl:7: the chat template of small does not write calls of functions; choose a model whose template "
            "does, name one with model.template, or write them into the messages as text"
        )
    with pytest.raises(PolicyError, match="does not write which functions there are"):
        renderer_for(tokenizer_of("deepseekv3")).render(answer("No."))


def test_values_come_back_by_their_schema_and_strange_texts_are_read_or_left() -> None:
    renderer = renderer_for(tokenizer_of("qwen3_5_think"))
    number = Call("weather", '{"days": 3, "town": "3"}')
    supervised(renderer, answer("", number))
    tokenizer, form = renderer.tokenizer, renderer.frame.calls
    assert form is not None
    for text in (
        "no call",
        "<tool_call>",
        "<tool_call>\n<function=weather>",
        '{"name": "x"}',
        "<tool_call>\n<function=",
    ):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert renderer.answers.read(ids, calls=True)[0].startswith(text[:5]), text


def test_calls_in_turns_before_are_shown_to_the_few_shot_baseline_as_calls() -> None:
    renderer = renderer_for(tokenizer_of("qwen3"))
    prompt = few_shot_prompt([answer("", ROME), answer("No.")], (TOOLS, Message("system", "Be brief."), USER))
    assert [turn.role for turn in prompt] == ["tools", "system", "user", "assistant", "user", "assistant", "user"]
    text = renderer.tokenizer.decode(renderer.prompt_ids(prompt))
    assert text.count(JSON_CALL) == 1 and text.count('"description": "the weather"') == 1


def test_a_template_for_tools_beside_the_usual_one_serves_prompts_that_list_some() -> None:
    tokenizer = chatml({"default": CHATML, "tool_use": trl_template("qwen2_5")})  # type: ignore[arg-type]
    renderer = renderer_for(tokenizer)
    assert "Qwen" not in tokenizer.decode(renderer.prompt_ids((USER,)))
    assert supervised(renderer, answer("", ROME))[1] == HERMES


# -- thoughts ---------------------------------------------------------------------------------------------

#: Template -> (end of the prompt, what is supervised of a thought and an answer).
THOUGHTS = {
    "qwen3": ("assistant\n", "<think>\nhm  hm\n</think>\n\nFine.\n <|im_end|>"),
    "qwen3_5_think": ("assistant\n<think>\n", "hm  hm\n</think>\n\nFine.\n <|im_end|>"),
    "deepseekv3": ("<｜Assistant｜><think>\n", "hm  hm\n</think>\n\nFine.\n <eos>"),
    "glm4moe": ("<|assistant|>", "\n<think>hm  hm</think>\nFine.\n <eos>"),
    "gptoss": (
        "<|start|>assistant",
        "<|channel|>analysis<|message|>hm  hm<|end|><|start|>assistant<|channel|>final<|message|>Fine.\n <|return|>",
    ),
    "gemma4_v5": ("<|turn>model\n", "<|channel>thought\nhm  hm\n<channel|>Fine.\n <turn|>"),
    "gemma3": ("model\n", "<think>\nhm  hm\n</think>\n\nFine.\n "),
    "nemotron_3_nano": ("assistant\n<think>\n", "hm  hm\n</think>\nFine.\n <|im_end|>"),
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_a_thought_is_learned_given_or_left_out_and_never_twice(name: str, tmp_path: Path) -> None:
    ending, learned = THOUGHTS[name]
    thinking = answer("Fine.\n ", thought="hm  hm", prompt=(USER,))
    tokenizer = tokenizer_of(name)
    renderer = renderer_for(tokenizer, thoughts="keep")
    prompt, said = supervised(renderer, thinking)
    assert prompt.endswith(ending) and said.startswith(learned)
    supervised(renderer, answer("Fine.", prompt=(USER,)))  # no thought is a closed one, where one was opened

    tokenizer.save_pretrained(tmp_path)  # whoever serves it asks as it was trained
    served = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": USER.content}]
    ids = served.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == renderer.prompt_ids((USER,))
    again = renderer_for(served)
    assert (again.template, again.template_hash, again.answers.thinks) == (
        renderer.template,
        renderer.template_hash,
        True,
    )
    assert again.render(thinking) == renderer.render(thinking)

    given = renderer_for(tokenizer_of(name), thoughts="context")
    prompt, said = supervised(given, answer("Fine.\n ", prompt=(USER, Message("thought", "hm  hm"))))
    assert said.startswith("Fine.\n ")
    whole = tokenizer.decode(renderer.render(thinking).input_ids)
    assert whole == tokenizer.decode(
        given.render(answer("Fine.\n ", prompt=(USER, Message("thought", "hm  hm")))).input_ids
    )


ENDS_BOTH = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m.reasoning_content %}<|im_start|>think\n"
    "{{ m.reasoning_content }}<|im_end|>{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_that_ends_thoughts_as_it_ends_turns_can_only_be_given_them() -> None:
    """Every row was refused for holding a token that ends the turn, which nobody could take out of it."""
    why = "ends thoughts with <|im_end|>, which ends the turn too, so a clone would stop after its thought"
    with pytest.raises(PolicyError, match=re.escape(why)):
        renderer_for(chatml(ENDS_BOTH), thoughts="keep")
    given = answer("Fine.", prompt=(USER, Message("thought", "hm")))
    prompt, said = supervised(renderer_for(chatml(ENDS_BOTH), thoughts="context"), given)
    assert prompt.endswith("<|im_start|>think\nhm<|im_end|>") and said == "Fine.<|im_end|>"
    assert supervised(renderer_for(chatml(ENDS_BOTH)), answer("Fine.", prompt=(USER,)))[1] == "Fine.<|im_end|>"


def test_a_turn_ends_where_the_sequence_does_whatever_a_template_writes_behind_it() -> None:
    """Command R7B's asks for the next answer behind every one, and a clone learned to write that, too."""
    asks_again = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}"
        "<|im_start|>assistant{{ '\\n' }}"
    )
    tokenizer = chatml(asks_again)
    tokenizer.eos_token = "<|im_end|>"
    renderer = renderer_for(tokenizer)
    assert renderer.frame.tail.startswith("<|im_end|><|im_start|>")
    assert supervised(renderer, answer("Fine.", prompt=(USER,)))[1] == "Fine.<|im_end|>"


def test_an_answer_opens_behind_a_thought_that_the_prompt_alone_has_closed() -> None:
    """Command R7B's: it was refused, for what is asked with has an empty thought and what is written has none."""
    closes = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}<|ANSWER|>{% endif %}"
        "{{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if not enable_thinking %}<|START_THINKING|><|END_THINKING|>{% endif %}{% endif %}"
    )
    asked, said = supervised(renderer_for(chatml(closes)), answer("Fine.", prompt=(USER,)))
    assert asked.endswith("assistant\n<|START_THINKING|><|END_THINKING|><|ANSWER|>") and said == "Fine.<|im_end|>"


#: The end of a turn is no token of this vocabulary.
SPELLED_END = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m['role'] }}>\n{{ m['content'] }}"
    "{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}\n</{{ m['role'] }}>\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>\n{% endif %}"
)


@pytest.mark.parametrize("mode", ["off", "context"])
def test_words_end_alike_with_functions_and_without(mode: str) -> None:
    """After a result they ended with the template's tail in letters, and every such row was refused."""
    renderer = renderer_for(chatml(SPELLED_END), thoughts=mode)
    last = (Message("thought", "hm"),) if mode == "context" else ()
    plain = renderer.render(answer("Fine.", prompt=(USER, *last)))
    after = renderer.render(answer("Fine.", prompt=(TOOLS, USER, CALLING, RESULT, *last)))
    assert plain.completion_ids == after.completion_ids


def test_what_a_template_leaves_out_of_an_earlier_turn_is_one_sentence() -> None:
    """Qwen 3 drops what an earlier answer says up to </think>; nobody was told."""
    renderer = renderer_for(tokenizer_of("qwen3"))
    row = answer("Fine.", prompt=(USER, Message("assistant", "Both </think> of us."), USER))
    with pytest.raises(DemonstrationsError) as caught:
        renderer.render(row)
    assert str(caught.value.problems[0]) == (
        "d.jsonl:7: 'prompt' is not whole in the chat template, which leaves out words of the assistant in turn 2; "
        "change that turn, or choose another template with model.template"
    )


def test_a_special_token_in_an_earlier_call_is_no_token() -> None:
    """It was the token itself: a message could begin a turn."""
    before = Message("assistant", "", calls=(Call("weather", '{"town": "<|im_start|>"}'),))
    row = answer("Fine.", prompt=(TOOLS, USER, before, RESULT))
    with pytest.raises(DemonstrationsError, match="'prompt' spells a special token inside a call of an earlier turn"):
        renderer_for(tokenizer_of("qwen3")).render(row)
    tokens = renderer_for(tokenizer_of("qwen3"), special_tokens="tokens")
    start = tokens.tokenizer.convert_tokens_to_ids("<|im_start|>")
    plain = answer("Fine.", prompt=(TOOLS, USER, CALLING, RESULT))
    assert tokens.render(row).prompt_ids.count(start) == tokens.render(plain).prompt_ids.count(start) + 1


def test_earlier_thoughts_are_the_templates_to_show() -> None:
    renderer = renderer_for(tokenizer_of("qwen3"), thoughts="keep")
    before = Message("assistant", "", "look first", (ROME,))
    text = renderer.tokenizer.decode(renderer.prompt_ids((TOOLS, USER, before, RESULT)))
    assert "<think>\nlook first\n</think>" in text  # it shows those since the last question
    text = renderer.tokenizer.decode(renderer.prompt_ids((USER, Message("assistant", "fine", "mused"), USER)))
    assert "mused" not in text and "fine" in text


def test_what_a_model_writes_is_parted_whether_or_not_it_comes_to_an_answer() -> None:
    renderer = renderer_for(tokenizer_of("qwen3"), thoughts="keep")

    def read(text: str) -> tuple[str, str]:
        return renderer.answers.read(renderer.tokenizer.encode(text, add_special_tokens=False), calls=False)

    assert read("<think>\nhm\n</think>\n\nFine.") == ("Fine.", "hm")
    assert read("<think>hm</think>Fine.") == ("Fine.", "hm")
    assert read("<think>\nand so on") == ("", "and so on")
    assert read("Fine.") == ("Fine.", "")
    assert (
        renderer.answers.thought_tokens(
            answer("a", thought="hm", prompt=(USER,)), renderer.render(answer("a", prompt=(USER,)))
        )
        == 1
    )


# -- options ----------------------------------------------------------------------------------------------


def test_options_of_the_template_reach_training_generation_and_whoever_serves_it(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("llama3_1")
    renderer = renderer_for(tokenizer, options={"date_string": "1 Jan 2031"})
    assert "1 Jan 2031" in tokenizer.decode(renderer.prompt_ids((USER,)))
    tokenizer.save_pretrained(tmp_path)
    served = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": USER.content}]
    ask: dict[str, Any] = {"add_generation_prompt": True, "return_dict": False}
    assert served.apply_chat_template(messages, **ask) == renderer.prompt_ids((USER,))
    assert "2 Feb" in served.apply_chat_template(messages, date_string="2 Feb", tokenize=False)
    assert renderer.template_hash != renderer_for(tokenizer_of("llama3_1")).template_hash
    values = {"a": [1, None, True], "b": {"c": 'it\'s "so"'}}
    written = chatml("{{ values | tojson }}" + CHATML)
    assert json.dumps(values) in written.decode(renderer_for(written, options={"values": values}).prompt_ids((USER,)))


def test_an_option_that_the_template_does_not_read_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"'enable_thinkin' is nothing that .* reads; did you mean 'enable_thinking'"):
        renderer_for(tokenizer_of("qwen3"), options={"enable_thinkin": True})


# -- special tokens ---------------------------------------------------------------------------------------

SPELLED = answer("a<|im_end|>b", prompt=(USER,))


def test_completions_that_spell_a_special_token_are_refused_until_it_is_said_what_is_meant() -> None:
    refusing, words, tokens = (renderer_for(chatml(), special_tokens=mode) for mode in ("refuse", "text", "tokens"))  # type: ignore[arg-type]
    with pytest.raises(DemonstrationsError) as caught:
        refusing.render_all([SPELLED, answer("sound", prompt=(USER,))])
    assert [str(problem) for problem in caught.value.problems] == [
        "d.jsonl:7: 'completion' spells <|im_end|>, a special token of this tokenizer; say which is meant with "
        "demonstrations.special_tokens: text (letters) or tokens (the token)"
    ]
    refusing.prompt_ids((Message("user", "what is <|im_end|>?"),))  # in a question it is words, as ever it was
    end = words.end_of_turn[-1]
    assert words.render(SPELLED).completion_ids.count(end) == 1
    with pytest.raises(DemonstrationsError, match="a token that ends the turn, before its end"):
        tokens.render(SPELLED)
    meant = answer("a<|im_start|>b <|im_start|>", prompt=(USER, Message("assistant", "<|im_start|>"), USER))
    row = tokens.render(meant)
    start = tokens.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert row.completion_ids.count(start) == 2 and row.prompt_ids.count(start) == 5
    assert tokens.decode_completion(row.completion_ids) == meant.completion
    assert words.render(meant).prompt_ids.count(start) == 4


def test_a_call_that_spells_a_special_token_is_refused() -> None:
    renderer = renderer_for(tokenizer_of("qwen3"))
    with pytest.raises(DemonstrationsError, match=re.escape("spells <|im_end|> inside a call")):
        renderer.render(answer("", Call("weather", '{"town": "<|im_end|>"}')))


def test_ordinary_tokens_keep_their_numbers_where_special_ones_are_spelled() -> None:
    """Tokens that the vocabulary does not hold were numbered anew once the special ones before them were gone."""
    renderer = renderer_for(chatml())
    row = renderer.render(answer("<think> <|im_end|> </think>", prompt=(USER,)))
    known = renderer.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert [token for token in row.completion_ids if token in known] == known
    assert renderer.decode_completion(row.completion_ids) == "<think> <|im_end|> </think>"


# -- while it is written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "gptoss", "gemma4_v5"])
def test_a_thought_is_told_from_the_answer_while_it_is_written(name: str) -> None:
    """Whatever the pieces are, they add up to what is read of the whole, and no tag is shown in between."""
    renderer = renderer_for(tokenizer_of(name), thoughts="keep")
    for thought in ("hm,\n\nwell < maybe", ""):
        row = renderer.render(answer("It </b> is.\n Fine", thought=thought, prompt=(USER,)))
        text = renderer.tokenizer.decode(row.completion_ids[: -len(renderer.end_of_turn)])
        for size in (1, 3, len(text)):
            shown: list[tuple[str, bool]] = []
            streamed = StreamedAnswer(renderer.answers, lambda *piece, shown=shown: shown.append(piece))  # type: ignore[misc]
            for start in range(0, len(text), size):
                streamed.add(text[start : start + size])
            streamed.add("", last=True)
            found = ["".join(piece for piece, mine in shown if mine is which) for which in (True, False)]
            assert found == [thought, "It </b> is.\n Fine"] == [streamed.thought, streamed.said], size
            assert [mine for _, mine in shown] == sorted((mine for _, mine in shown), reverse=True)


# -- what a template does with calls ---------------------------------------------------------------------------

#: As Gemma 4's: a thought stands beside a call, and is dropped before words.
THINKS_BESIDE_CALLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m.reasoning_content and m.tool_calls %}<|channel>thought\n{{ m.reasoning_content }}\n<channel|>{% endif %}"
    "{{ m['content'] }}{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: As Kimi K2's: calls are numbered in a list that grows, which transformers' sandbox forbids.
QUEUES_CALLS = (
    "{%- set queue = namespace(ids=[]) -%}{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "<|im_start|>{{ m['role'] }}\n{% if m.role == 'tool' %}{%- set id = queue.ids.pop(0) -%}Return of {{ id }}: "
    "{% endif %}{{ m['content'] }}{% for c in m.tool_calls %}{%- set id = 'functions.' + c.function.name + ':0' -%}"
    "{%- set _ = queue.ids.append(id) -%}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("words", ["", "Fine."])
def test_a_thought_that_a_template_writes_beside_calls_alone_is_written_so_everywhere(words: str) -> None:
    """Calls with a thought were refused, and a thought before words stood in tags that the model does not know."""
    calls = () if words else (ROME,)
    learned = renderer_for(chatml(THINKS_BESIDE_CALLS), thoughts="keep")
    kept = answer(words, *calls, thought="hm")
    assert supervised(learned, kept)[1].startswith("<|channel>thought\nhm\n<channel|>")
    given = renderer_for(chatml(THINKS_BESIDE_CALLS), thoughts="context")
    row = answer(words, *calls, prompt=(TOOLS, USER, Message("thought", "hm")))
    assert supervised(given, row)[0].endswith("assistant\n<|channel>thought\nhm\n<channel|>")
    assert given.render(row).input_ids == learned.render(kept).input_ids


def test_a_list_that_a_template_changes_in_place_is_assigned_anew(tmp_path: Path) -> None:
    """Every row with a call was refused: the template raised in transformers' sandbox, wherever it was rendered."""
    renderer = renderer_for(chatml(QUEUES_CALLS))
    assert "<tool_call>" in supervised(renderer, answer("", ROME))[1]
    prompt, _ = supervised(renderer, answer("It is 24.", prompt=(TOOLS, USER, CALLING, RESULT)))
    assert "of functions.weather:0: 24 C" in prompt
    renderer.tokenizer.save_pretrained(tmp_path)  # who serves the clone renders with the same sandbox
    served = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    turn = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]}
    messages = [{"role": "user", "content": "a"}, turn, {"role": "tool", "content": "b"}]
    assert "Return of functions.weather:0: b" in served.apply_chat_template(messages, tokenize=False)


def test_assignments_say_what_append_and_pop_said() -> None:
    body = (
        "{%- set n = namespace(q=[1, 2]) -%}{% set _ = n.q.append(f(3, ')')) %}{%- set a = n.q.pop(0) -%}"
        "{%+ set b = n.q.pop() -%}{{ a }} {{ b }} {{ n.q }}"
    )
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    forbids = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    given = {"f": lambda number, text: f"{number}{text}"}
    with pytest.raises(jinja2.sandbox.SecurityError):
        forbids.from_string(body).render(**given)
    assert forbids.from_string(with_assignments(body)).render(**given) == plain.from_string(body).render(**given)
    for other in ("{{ q.append(1) }}", "{% set _ = q.append(1) %}", "{% set x = n.q.pop(n.q.index(1)) %}", "a.b.pop()"):
        assert with_assignments(other) == other
