"""Which family of models can be tuned in which way: a table, model by method and placement.

    python -m benchmarks.families [--write]

Of every family of the architecture table, and of one that has no row in it (DeBERTa-v2), a small random model
is made, saved, and registered as an operator registers one: by the passes of `enclave_host.proving`, which
decide what the wizard offers and what freezing refuses. `--write` puts the table into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "docs" / "results.md"
BEGIN, END = "<!-- families: made by make families -->\n", "<!-- end of families -->\n"
OTHER = "deberta-v2"
TASKS = {"classifier": ("sorts", "sequence-classification"), "lm": ("writes", "causal-lm")}
COLUMNS = {
    "all_in_tee/lora": "Method 1, all in TEE, LoRA",
    "all_in_tee/prefix": "the same, P-Tuning v2",
    "masked/lora": "masked, LoRA",
    "masked/prefix": "masked, P-Tuning v2",
    "split/spf": "Method 2, SPF",
}
WORDS = 47
Row = dict[str, Any]


def save(family: str, head: str, folder: Path) -> None:
    """A small random model with a tokenizer of as many words as it knows."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    from benchmarks import small_models

    special = ("[PAD]", "[BOS]", "[EOS]", "[UNK]")
    words = [*special, *(f"w{number}" for number in range(WORDS - len(special)))]
    reported = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    reported.pre_tokenizer = Whitespace()
    named = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), special, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=reported, **named).save_pretrained(folder)
    model = _deberta() if family == OTHER else small_models.model(family, head, vocabulary=WORDS)
    model.save_pretrained(folder)


def _deberta() -> Any:
    """DeBERTa-v2, whose attention is of a build that no row of the table has."""
    from transformers import AutoModelForSequenceClassification, DebertaV2Config

    reported = DebertaV2Config(
        vocab_size=WORDS, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=40,
        max_position_embeddings=48, pad_token_id=0, num_labels=3, relative_attention=True, position_buckets=8,
        pos_att_type=["p2c", "c2p"], share_att_key=True, norm_rel_ebd="layer_norm",
        position_biased_input=False, type_vocab_size=0,
    )  # fmt: skip
    return AutoModelForSequenceClassification.from_config(reported).eval()


def rows(only: str = "") -> Iterator[Row]:
    """What was seen of each, or of one family alone: its name, what it does, and of each way "yes" or the
    code that refuses it."""
    from benchmarks.small_models import HEADS
    from contracts.architecture.table import ARCHITECTURES
    from contracts.refusal import Refusal
    from enclave_host.child_calls import Prove
    from enclave_host.proving.registration import proof_of

    for family, head in (*HEADS, (OTHER, "classifier")):
        if only not in ("", family):
            continue
        does, task = TASKS[head]
        named = ARCHITECTURES[family].name if family in ARCHITECTURES else "DeBERTa-v2"
        with tempfile.TemporaryDirectory(prefix="fedslice-family-") as own:
            save(family, head, Path(own))
            try:
                ways = proof_of(Prove(own, task, (), 1 << 30), lambda _progress: None).ways
                seen = {way: ways[way].code or "yes" for way in COLUMNS}
            except Refusal as refusal:
                seen = dict.fromkeys(COLUMNS, refusal.code)
        yield {"family": named, "does": does, **seen}


def table(found: list[Row]) -> str:
    """As Markdown. A family's two tasks are two rows: each is registered by itself."""
    lines = [f"| family | | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for row in found:
        cells = (row[way] if row[way] == "yes" else f"`{row[way]}`" for way in COLUMNS)
        lines.append(f"| {row['family']} | {row['does']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def put(text: str, made: str) -> str:
    """The page with this table between its marks."""
    marked = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not marked.search(text):
        raise SystemExit(f"{RESULTS.name} has no place for the table")
    return marked.sub(lambda _found: BEGIN + "\n" + made + "\n" + END, text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="put the table into docs/results.md")
    chosen, found = parser.parse_args(), []
    for row in rows():
        found.append(row)
        figure = {
            "figure": "ways_proven", "value": sum(row[way] == "yes" for way in COLUMNS), "unit": "ways",
            "goal": len(COLUMNS), "better": "higher", "config": row,
        }  # fmt: skip
        print(json.dumps(figure), flush=True)
    print(table(found))
    if chosen.write:
        RESULTS.write_text(put(RESULTS.read_text(encoding="utf-8"), table(found)), encoding="utf-8")


if __name__ == "__main__":
    main()
