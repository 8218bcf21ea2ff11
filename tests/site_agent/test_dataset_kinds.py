"""What a row is, is seen from the columns and said by a person: classes, pairs, prompts, conversations or
texts. Nothing is dropped without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from contracts.refusal import Refusal
from contracts.rows import (
    ChatMessage,
    Messages,
    PairLabel,
    PromptChoices,
    PromptResponse,
    Row,
    TextLabel,
    WholeText,
    read_row,
)
from site_agent.dataset_questions import require_answers
from site_agent.dataset_report import show
from site_agent.datasets.catalogue import Catalogue
from site_agent.datasets.columns import Columns
from site_agent.datasets.intake import BadRows, Intake, Wishes, take_in
from site_agent.state import State

NUMBERS = range(20)


def take(tmp_path: Path, rows: list[dict[str, Any]], **said: Any) -> tuple[Intake, list[Row]]:
    source, target = tmp_path / "in.jsonl", tmp_path / "kept.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    skip = said.pop("skip_bad", False)
    found = take_in([source], target, Wishes(Columns(**said), skip_bad=skip))
    return found, [read_row(line) for line in target.read_bytes().splitlines()]


def refusal(tmp_path: Path, rows: list[dict[str, Any]], **said: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        take(tmp_path, rows, **said)
    return caught.value


def rows(**columns: str) -> list[dict[str, Any]]:
    """Twenty rows; N in a value is the row's number, L one of two letters."""
    return [
        {name: value.replace("N", str(n)).replace("L", "ab"[n % 2]) for name, value in columns.items()}
        for n in NUMBERS
    ]


@pytest.mark.parametrize(
    ("columns", "kind", "first"),
    [
        ({"text": "note N", "label": "L"}, "text-label", TextLabel("note 0", "a", "train")),
        ({"premise": "case N", "hypothesis": "ill N", "label": "L"}, "pair-label",
         PairLabel("case 0", "ill 0", "a", "train")),
        ({"label": "L", "sentence2": "ill N", "sentence1": "case N"}, "pair-label",
         PairLabel("case 0", "ill 0", "a", "train")),
        ({"question": "is it N", "context": "case N", "label": "L"}, "pair-label",
         PairLabel("case 0", "is it 0", "a", "train")),
        ({"prompt": "why N", "response": "so N", "source": "L"}, "prompt-response",
         PromptResponse("why 0", "so 0", "train")),
        ({"instruction": "say N", "input": "case N", "output": "ill N"}, "prompt-response",
         PromptResponse("say 0\n\ncase 0", "ill 0", "train")),
        ({"question": "why N", "answer": "so N", "context": "case N"}, "prompt-response",
         PromptResponse("case 0\n\nwhy 0", "so 0", "train")),
        ({"Frage": "warum N", "Antwort": "so N"}, "prompt-response",
         PromptResponse("warum 0", "so 0", "train")),
        ({"note": "one whole note N"}, "text", WholeText("one whole note 0", "train")),
    ],
)  # fmt: skip
def test_the_columns_say_what_a_row_is(tmp_path: Path, columns: dict, kind: str, first: Row) -> None:
    found, kept = take(tmp_path, rows(**columns))
    assert found.columns is not None and found.columns.kind == kind
    assert type(kept[0]) is type(first)
    assert [getattr(kept[0], name) for name in first.__struct_fields__ if name != "split"] == [
        getattr(first, name) for name in first.__struct_fields__ if name != "split"
    ]
    assert (found.labels != {}) == (kind in ("text-label", "pair-label"))


def test_what_could_be_two_kinds_is_asked(tmp_path: Path) -> None:
    records = rows(question="why N does it hurt", answer="so N", label="L")
    refused = refusal(tmp_path, records)
    assert (refused.code, refused.facts["label"]) == ("dataset.which_kind", "label")
    found, _ = take(tmp_path, records, kind="prompt-response")
    assert found.unused == ("label",)
    found, kept = take(tmp_path, records, text="question", pair="answer", label="label")
    assert kept[0] == PairLabel("why 0 does it hurt", "so 0", "a", kept[0].split) and not found.unused


def test_a_second_column_of_texts_is_not_dropped_without_a_word(tmp_path: Path) -> None:
    records = rows(text="case N came in with pain", trial="what was given to whom in trial N", label="L")
    found, _ = take(tmp_path, records)
    assert found.findings is not None and found.findings.unused_texts == ("trial",)
    with pytest.raises(Refusal) as caught:
        require_answers(found, (), lambda question: "n" if "texts" in question else "y")
    assert caught.value.code == "dataset.unanswered" and "--pair-column" in caught.value.facts["options"]
    require_answers(found, ("unused-texts",), lambda _question: "y")
    found, kept = take(tmp_path, records, pair="trial")
    assert found.columns is not None and found.columns.kind == "pair-label"
    assert kept[0] == PairLabel(
        "case 0 came in with pain", "what was given to whom in trial 0", "a", kept[0].split
    )


def test_prompts_are_put_together_of_the_columns_that_are_named(tmp_path: Path) -> None:
    records = rows(dialogue="Doctor: how are you? N", header="L", summary="The patient is well N")
    _, kept = take(tmp_path, records, prompt=("header", "dialogue"), response="summary")
    assert kept[0] == PromptResponse("a\n\nDoctor: how are you? 0", "The patient is well 0", kept[0].split)
    assert refusal(tmp_path, records, response="summary").code == "dataset.which_column"
    assert refusal(tmp_path, records, prompt=("nothing",), response="summary").code == "dataset.no_column"


@pytest.mark.parametrize("answer", [1, "B", "b.", "swab", "1"])
def test_an_answer_among_choices_is_its_letter_and_its_words(tmp_path: Path, answer: Any) -> None:
    records = [{"question": f"which {n}", "choices": ["scan", "swab"], "answer": answer} for n in NUMBERS]
    _, kept = take(tmp_path, records)
    assert kept[0] == PromptChoices(
        "which 0\n\nA. scan\nB. swab", "B. swab", kept[0].split, ("A. scan", "B. swab")
    )
    _, kept = take(tmp_path, records, kind="prompt-response")
    assert kept[0] == PromptResponse("which 0\n\nA. scan\nB. swab", "B. swab", kept[0].split)


def test_questions_are_read_as_medmcqa_and_pubmedqa_have_them(tmp_path: Path) -> None:
    records = [
        {"question": f"which {n}", "opa": "scan", "opb": "swab", "opc": None, "opd": "", "cop": n % 2}
        for n in NUMBERS
    ]
    found, kept = take(tmp_path, records)
    assert kept[1] == PromptChoices(
        "which 1\n\nA. scan\nB. swab", "B. swab", kept[1].split, ("A. scan", "B. swab")
    )
    assert found.columns is not None and found.columns.choices == ("opa", "opb", "opc", "opd")
    cases = [
        {"question": f"why {n}", "context": {"contexts": ["case", "cause"]}, "final_decision": "yes"}
        for n in NUMBERS
    ]
    _, kept = take(tmp_path, cases, response="final_decision")
    assert kept[0] == PromptResponse("case\n\ncause\n\nwhy 0", "yes", kept[0].split)
    found, kept = take(tmp_path, cases, response="final_decision", fixed=("yes", "no", "maybe"))
    assert kept[0] == PromptChoices("case\n\ncause\n\nwhy 0", "yes", kept[0].split, ("yes", "no", "maybe"))
    assert found.columns is not None and found.columns.kind == "prompt-choices"


def test_a_question_without_choices_or_with_too_many_is_named(tmp_path: Path) -> None:
    records = [{"question": f"which {n}", "choices": ["scan", "swab"], "answer": 0} for n in NUMBERS]
    for choices, reason in (([], "no choices"), ([str(n) for n in range(11)], "more than 10")):
        odd = {"question": "which 20", "choices": choices, "answer": 0}
        refused = refusal(tmp_path, [*records, odd], kind="prompt-choices")
        assert isinstance(refused, BadRows) and reason in refused.faults[0].reason
        found, _ = take(tmp_path, [*records, odd] if choices else [{**row, "choices": []} for row in records])
        assert found.columns is not None and found.columns.kind == "prompt-response"
    records = [{"question": f"which {n}", "answer": "so"} for n in NUMBERS]
    assert refusal(tmp_path, records, kind="prompt-choices").facts["role"] == "choices"


def test_an_answer_that_is_none_of_the_choices_is_named_by_its_line(tmp_path: Path) -> None:
    records = [{"question": f"which {n}", "choices": ["scan", "swab"], "answer": n % 3} for n in NUMBERS]
    with pytest.raises(BadRows) as caught:
        take(tmp_path, records)
    assert caught.value.faults[0].line == 3 and "counts from 0" in caught.value.faults[0].reason


def chat(n: int, **more: Any) -> dict[str, Any]:
    turns = [
        ("system", "be kind"),
        ("user", f"it hurts {n}"),
        ("assistant", f"where {n}"),
        ("user", "thanks"),
    ]
    return {"messages": [{"role": role, "content": said} for role, said in turns], **more}


def test_conversations_keep_their_turns_up_to_the_last_answer(tmp_path: Path) -> None:
    found, kept = take(tmp_path, [chat(n, id=n) for n in NUMBERS])
    wanted = (
        ChatMessage("system", "be kind"),
        ChatMessage("user", "it hurts 0"),
        ChatMessage("assistant", "where 0"),
    )
    assert kept[0] == Messages(wanted, kept[0].split)
    assert found.columns is not None and (found.columns.kind, found.unused) == ("messages", ("id",))
    answer = {"from": "gpt", "value": "so", "w": 1}
    shared = [{"conversations": [{"from": "human", "value": f"it hurts {n}"}, answer]} for n in NUMBERS]
    found, kept = take(tmp_path, shared)
    assert kept[0] == Messages(
        (ChatMessage("user", "it hurts 0"), ChatMessage("assistant", "so")), kept[0].split
    )
    assert found.unused == ("conversations: w",)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "user", "content": "x"}], "the assistant says nothing"),
        ([{"role": "assistant", "content": "x"}], "the assistant speaks first"),
        ([{"role": "tool", "content": "canary"}], "a turn is of none of"),
        ([{"role": "user"}], "does not say who speaks"),
        (
            [{"role": "user", "content": ""}, {"role": "assistant", "content": "x"}],
            "content of a turn is empty",
        ),
        (["canary"], "no list of turns"),
        ("canary", "no list of turns"),
    ],
)
def test_a_conversation_that_cannot_be_learnt_is_named_without_its_words(
    tmp_path: Path, messages: Any, reason: str
) -> None:
    with pytest.raises(BadRows) as caught:
        take(tmp_path, [*map(chat, NUMBERS), {"messages": messages}], kind="messages")
    (fault,) = caught.value.faults
    assert fault.line == 21 and reason in fault.reason and "canary" not in fault.reason


def test_parquet_keeps_lists_as_conversations_and_choices(tmp_path: Path) -> None:
    target = tmp_path / "kept.jsonl"
    chats = {"messages": [chat(n)["messages"] for n in NUMBERS], "vector": [[0.5]] * 20}
    quiz = {
        "question": [f"which {n}" for n in NUMBERS],
        "options": [["scan", "swab"]] * 20,
        "answer": ["A"] * 20,
    }
    for table, wanted in ((chats, "messages"), (quiz, "prompt-choices")):
        pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "in.parquet")
        found = take_in([tmp_path / "in.parquet"], target, Wishes())
        assert found.columns is not None and found.columns.kind == wanted
    assert read_row(target.read_bytes().splitlines()[0]).response == "A. scan"  # type: ignore[union-attr]


def test_twins_of_one_prompt_stay_in_one_split_and_are_no_duplicates(tmp_path: Path) -> None:
    records = [{"prompt": f"why {n // 2}", "response": f"so {n}"} for n in range(40)]
    found, kept = take(tmp_path, records)
    assert found.findings is not None and (found.findings.duplicates, found.findings.leaks) == (0, 0)
    splits: dict[str, set[str]] = {}
    for row in kept:
        splits.setdefault(row.prompt, set()).add(row.split)  # type: ignore[union-attr]
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) == {"train", "validation", "test"}
    found, _ = take(tmp_path, [*records, records[0]])
    assert found.findings is not None and found.findings.duplicates == 1


def test_a_card_of_conversations_shows_lengths_and_turns_and_no_word_of_them(
    state: State, tmp_path: Path
) -> None:
    source = tmp_path / "chats.jsonl"
    source.write_text("".join(json.dumps(chat(n)) + "\n" for n in NUMBERS))
    wishes = Wishes(languages=("en", "de-CH"))
    dataset, intake = Catalogue(state).add([source], "chats", wishes)
    card = dataset.card
    assert (card.kind, card.labels, card.languages) == ("messages", {}, ("en", "de-CH"))
    assert card.turns == dict.fromkeys(("p10", "p25", "p50", "p75", "p90"), 3)
    assert (card.answer_length["p50"], card.text_length["p50"]) == (7, 24)
    lines: list[str] = []
    show(dataset, intake, lambda *records: lines.extend(records))
    text = "\n".join(lines)
    assert "each row is a conversation (messages)" in text and "turns        p10 3" in text
    assert "labels" not in text and "hurts" not in text and "where" not in text


def test_texts_alone_are_confirmed_by_a_person_or_by_name(tmp_path: Path) -> None:
    found, _ = take(tmp_path, rows(note="one whole note N"))
    with pytest.raises(Refusal) as caught:
        require_answers(found, (), lambda _question: "n")
    assert caught.value.facts["options"] == "--kind text --text-column note"
    found, _ = take(tmp_path, rows(note="one whole note N", ward="L"), kind="text", text="note")
    require_answers(found, (), lambda _question: "n")
    assert found.unused == ("ward",)
