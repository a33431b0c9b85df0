"""Tokenizers of others: the same ids and texts as transformers', turns as their chat template, and what is refused."""

import json
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from mindhand.core.errors import BadCheckpoint, BadData
from mindhand.core.keys import Keys
from mindhand.core.seams import Turn
from mindhand.model.asking import Question, taught
from mindhand.model.imports import import_folder
from mindhand.model.store import load_vla, save_vla
from mindhand.model.untied import Untied
from mindhand.model.vla import VLA
from mindhand.model.words import ACT, ASK, END, PAD, SAY, Words, text_of

from ..model.tiny import CORPUS
from ..seams.build import spec

transformers = pytest.importorskip("transformers")
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPARE = 7  # rows of the embedding that no token has
TEXTS = st.text(st.one_of(st.characters(max_codepoint=127), st.characters(exclude_categories=("Cs",))), max_size=30)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folders "merges" (vocab.json, merges.txt), as Qwen2's was published, and "whole" (tokenizer.json), with a tiny
    Qwen2; "theirs", a tokenizer alone, for transformers to load."""
    root = tmp_path_factory.mktemp("theirs")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([*CORPUS, "user\nassistant\n"] * 3, trainer)
    (root / "merges").mkdir()
    made.model.save(str(root / "merges"))
    vocab = json.loads((root / "merges" / "vocab.json").read_text())
    merges = [tuple(line.split()) for line in (root / "merges" / "merges.txt").read_text().splitlines()[1:]]
    theirs = transformers.Qwen2Tokenizer(vocab=vocab, merges=merges, additional_special_tokens=MARKS[1:])
    theirs.chat_template = TEMPLATE
    theirs.save_pretrained(root / "theirs")
    ids = {m: theirs.convert_tokens_to_ids(m) for m in MARKS}
    (root / "merges" / "added_tokens.json").write_text(json.dumps(ids))
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=len(theirs) + SPARE, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.Qwen2ForCausalLM(config)
    model.save_pretrained(root / "merges")
    shutil.copytree(root / "merges", root / "whole")
    shutil.copytree(root / "theirs", root / "whole", dirs_exist_ok=True)
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        (root / "whole" / name).unlink(missing_ok=True)
    return root


@pytest.fixture(scope="module")
def theirs(root):
    return transformers.AutoTokenizer.from_pretrained(root / "theirs")


@pytest.fixture(scope="module", params=["merges", "whole"])
def words(root, request):
    return import_folder(root / request.param).vlm().words


@given(text=TEXTS)
def test_ids_and_texts_are_theirs(words, theirs, text):
    ids = words.encode(text)
    assert ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert words.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)
    assert words.unknown(text) == []  # of bytes everything is made


@pytest.mark.parametrize("text", ["", "3+4=7\n\n12 ", "it's  here\r\n", "déjà vu 猫 🤖", "<|im_end|>x", "e\u0301"])
def test_named_texts_are_theirs(words, theirs, text):
    assert words.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]


def test_turns_are_those_of_their_chat_template(words, theirs):
    told = [
        {"role": "user", "content": "3+4="}, {"role": "assistant", "content": "7."},
        {"role": "user", "content": "pick"}, {"role": "assistant", "content": "none."},
    ]  # fmt: skip
    want = theirs.apply_chat_template(told, tokenize=False)
    turns = [Question(SAY, given=(a,), asked=(q,), among=(a,)) for q, a in (("3+4=", "7."), ("pick", "none."))]
    got = [words.decode(taught(words, [turn]).ids[0].tolist()) for turn in turns]
    assert "\n".join(got) + "\n" == want
    assert [words.id(PAD), words.id(END)] == [words.pad, words.end] == theirs.convert_tokens_to_ids(MARKS[::2])
    ask, say = words.questions(["3+4=", "pick it"]), words.answers(["7.", "none"], given=["", "no"])
    prompt = theirs.apply_chat_template(told[:1], add_generation_prompt=True, tokenize=False)
    assert words.decode([*ask.ids[0][ask.valid[0]].tolist(), *words.cue(SAY)]) == prompt
    assert text_of(words, ask.ids, ask.valid) == ["3+4=", "pick it"]
    assert text_of(words, say.ids, say.valid) == ["7.", "none"]
    assert words.decode(say.ids[0][say.supervised[0]].tolist()) == "7.<|im_end|>"
    assert len({tuple(words.cue(w)) for w in (ASK, SAY, ACT)}) == 3 and len(words.cue(SAY)) > 1


def test_it_speaks_as_theirs_does(root, theirs):
    ours = import_folder(root / "merges").vlm()
    model = transformers.AutoModelForCausalLM.from_pretrained(root / "merges").eval()
    prompt = [*ours.words.question("what is on the board?"), *ours.words.cue(SAY)]
    with torch.no_grad():
        end, pad = ours.words.end, ours.words.pad
        out = model.generate(
            torch.tensor([prompt]), max_new_tokens=9, do_sample=False, eos_token_id=end, pad_token_id=pad
        )
        ask = ours.words.questions(["what is on the board?"])
        trunk = ours([ours.text("text", ask.ids, ask.valid)])
        _, (said,) = ours.generate(trunk, [Turn(SAY, limit=9)], keys=Keys.seeded(0))
        forced, _ = ours.generate(trunk, [Turn(SAY, given=("7.",))], keys=Keys.seeded(0))
    new = [*out[0, len(prompt) :].tolist(), end]
    assert said == theirs.decode(new[: new.index(end)], clean_up_tokenization_spaces=False) and said
    assert forced.hidden["reasoning"].shape[1] == len(ours.words.cue(SAY)) + len(ours.words.encode("7.")) + 1


def test_rows_beyond_the_tokenizer_are_kept_and_new_words_take_them(root):
    model = import_folder(root / "whole").vlm()
    count, rows = len(model.words), model.embedding.num_embeddings
    assert rows == count + SPARE
    before = model.embedding.weight.detach().clone()
    (new,) = model.add_words(["<grip>"])
    assert new == count and model.embedding.num_embeddings == rows and model.words.encode("<grip>") == [new]
    assert torch.equal(model.embedding.weight[new + 1 :], before[new + 1 :])
    assert (model.embedding.weight[new] - before[:count].mean(0)).abs().max() < 1e-6


def test_a_checkpoint_has_the_tokenizer(root, tmp_path):
    model = import_folder(root / "merges").vlm()
    made = VLA(spec=spec(), backbone=model, edits=[Untied()], see=[])
    save_vla(made, tmp_path / "it")
    again = load_vla(tmp_path / "it").backbone.words
    for text in ("what is 3+4?", "déjà\n\nvu 猫", "<|im_start|>user"):
        assert again.encode(text) == model.words.encode(text)
    assert again.questions(["pick"]).ids.tolist() == model.words.questions(["pick"]).ids.tolist()
    assert (again.pad, again.end, again.cue(SAY)) == (model.words.pad, model.words.end, model.words.cue(SAY))


def copied(root, tmp_path, name):
    shutil.copytree(root / name, tmp_path / "it")
    return tmp_path / "it"


def rename(folder, old, new):
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace(old, new))


def too_many(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"<more{i}>" for i in range(SPARE + 1)])
    tokenizer.save(str(folder / "tokenizer.json"))


def pieces(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\x00")


BREAKS = {
    "has more tokens than rows": ("whole", too_many, "the embedding"),
    "is sentencepiece alone": ("whole", pieces, "sentencepiece"),
    "is cut off": ("whole", lambda f: (f / "tokenizer.json").write_text("{"), "cannot be read"),
    "frames turns otherwise": ("whole", lambda f: rename(f, "<|im_end|>", "<|eot|>"), "lacks"),
    "has no added tokens": ("merges", lambda f: (f / "added_tokens.json").unlink(), "lacks"),
    "has an added token elsewhere": (
        "merges", lambda f: (f / "added_tokens.json").write_text('{"<|im_end|>": 5000}'), "would be",
    ),
    "has half a vocabulary": ("merges", lambda f: (f / "vocab.json").write_text("{"), "do not make"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_tokenizer_that_is_refused(root, tmp_path, name):
    kind, breaks, what = BREAKS[name]
    folder = copied(root, tmp_path, kind)
    breaks(folder)
    with pytest.raises(BadCheckpoint, match=what):
        import_folder(folder).vlm()
    own = Words.train(CORPUS, 160)
    assert import_folder(folder).vlm(own).words is own  # a given one takes its place


def test_padding_that_was_stored_is_taken_out(root, tmp_path):
    folder = copied(root, tmp_path, "whole")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert import_folder(folder).vlm().words.encode("12345") == import_folder(root / "whole").vlm().words.encode(
        "12345"
    )


def test_bytes_without_a_token_are_unknown():
    """A byte-level tokenizer that saw ASCII alone keeps half of "é", which is no text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.decoder = normalizers.NFC(), decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=99, special_tokens=MARKS, show_progress=False)
    tokenizer.train_from_iterator(["abc", "\u00c3"], trainer)
    words = Words(tokenizer)
    assert words.unknown("aé猫") == ["é", "猫"]
    with pytest.raises(BadData, match="é"):
        words.questions(["é"])


@pytest.mark.parametrize(
    ("marks", "asked", "cue"),
    [
        (["<start_of_turn>", "<end_of_turn>"], "<bos><start_of_turn>user\na<end_of_turn>\n", "<start_of_turn>model\n"),
        (["<start_of_turn>", "<end_of_turn>", "<image>"], "<bos>a", "\n"),
    ],
)
def test_turns_of_gemma_and_paligemma(marks, asked, cue):
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(special_tokens=["<pad>", "<eos>", "<bos>", *marks], show_progress=False)
    tokenizer.train_from_iterator(["user\nmodel\naction\na"], trainer)
    tokenizer.decoder = decoders.Fuse()
    words = Words(tokenizer)
    assert words.decode(words.question("a")) == asked and words.decode(words.cue(SAY)) == cue
    assert words.decode([words.end]) == ("<eos>" if "<image>" in marks else "<end_of_turn>")
