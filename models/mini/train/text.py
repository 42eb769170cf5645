"""Word-level tokenizer over `vocab.txt` and a tiny UMT5 encoder.

`vocab.txt` holds one word per line; the line number is the token id.  New words are only ever appended, so that ids (and with
them the rows of older weights) keep their meaning.  `python text.py` checks that the grammar's words are all there.
"""
import os

import torch
from transformers import UMT5Config, UMT5EncoderModel

from grammar import VERBS, vocabulary

TEXT_LEN = 48
PAD, EOS, UNK = 0, 1, 2
TEXT_CONFIG = dict(d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, relative_attention_num_buckets=32,
                   relative_attention_max_distance=128, dropout_rate=0.0, feed_forward_proj="gated-gelu",
                   pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD, is_encoder_decoder=False, use_cache=False)


def words():
    """The vocabulary in id order: <pad>, </s>, <unk>, then words."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "vocab.txt")) as f:
        return f.read().split()


def make_tokenizer():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    tok = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words())}, unk_token="<unk>"))
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    tok.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tok.enable_truncation(TEXT_LEN)
    tok.enable_padding(length=TEXT_LEN, pad_id=PAD, pad_token="<pad>")
    return tok


def rows(vocab_size):
    """Embedding rows for a vocabulary: rounded up to 16."""
    return (vocab_size + 15) // 16 * 16


def make_text_encoder(vocab_size):
    return UMT5EncoderModel(UMT5Config(vocab_size=rows(vocab_size), **TEXT_CONFIG))


def grow_embedding(old, old_words):
    """Rows for today's vocabulary from those of an older, shorter one: known words keep theirs, a new word starts near the row of
    a relative (another form of the same verb, or the word with the longest common beginning), else near the mean."""
    now = words()
    if now[:len(old_words)] != old_words:
        raise ValueError("vocab.txt does not start with the words of the old weights; append new words, never insert")
    ids = {w: i for i, w in enumerate(old_words)}
    known = old[3:len(old_words)]
    new = torch.zeros(rows(len(now)), old.shape[1])
    new[:len(old_words)] = old[:len(old_words)]
    for i, w in enumerate(now[len(old_words):], len(old_words)):
        family = [f for forms in VERBS.values() if w in forms for f in forms if f in ids]
        common = lambda o: len(os.path.commonprefix([w, o]))
        best = max(old_words[5:], key=common)
        family = family or ([best] if common(best) >= 4 else [])
        base = torch.stack([old[ids[f]] for f in family]).mean(0) if family else known.mean(0)
        new[i] = base + 0.1 * known.std(0) * torch.randn(old.shape[1])
    return new


def tokenize(tok, texts, device="cpu"):
    enc = tok.encode_batch(texts)
    ids = torch.tensor([e.ids for e in enc])
    mask = torch.tensor([e.attention_mask for e in enc])
    return ids.to(device), mask.to(device)


def encode_text(enc, ids, mask):
    """-> [B, TEXT_LEN, 128]; rows after the text are exactly zero, as in Wan."""
    h = enc(input_ids=ids, attention_mask=mask).last_hidden_state
    return h * mask[..., None].to(h.dtype)


if __name__ == "__main__":
    missing = [w for w in vocabulary() if w not in words()]
    assert not missing, f"append to vocab.txt: {missing}"
    print(len(words()), "words,", rows(len(words())), "rows")
