# SPDX-License-Identifier: Apache-2.0
"""The tokenizers of make_reference.py: made, trained, and compared with what is committed."""

import json
import sys

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SPECIAL_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
]

# Words that get an entry in the vocabulary and no merges that lead there. The
# real Llama 3 vocabulary has such entries too: with ignore_merges a whole
# pre-token that is in the vocabulary wins, without it nobody ever sees them.
WORDS_WITHOUT_MERGES = ["zyzzyva", " quixotry", " Straßenbahn", "漢字", " хлебозавод", "\t\t\t"]

TOKENIZER_CASES = {
    # As of the first Llama 3 files: merges are strings.
    "tokenizer": {"ignore_merges": False, "merges": "strings", "post": "template"},
    # As of Llama 3.2 written by a present tokenizers: merges are pairs.
    "tokenizer_ignore_merges": {"ignore_merges": True, "merges": "pairs", "post": "sequence"},
}


def tokenizer_texts():
    """The texts of cases.json: what a runtime is likely to get wrong."""
    texts = [
        "",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "a",
        " a",
        "a ",
        "  a  ",
        "   leading spaces",
        "trailing spaces   ",
        "two  spaces   three    four",
        "tab\tand\t\ttabs\t\t\tand more",
        "line\nline\n\nline\n\n\nend\n",
        "dos\r\nlines\r\n\r\nend\r\n",
        "lone\rcarriage\r\rreturns",
        "spaces before newline  \n  and after",
        "space newline mix \n \n  \n",
        "\n\n  indented\n\tby tab\n",
        "mixed \t \n\t \r\n x",
        "no-break\u00a0space\u00a0\u00a0twice",
        "\u00a0 leading no-break",
        "ideographic\u3000space\u3000\u3000twice",
        "thin\u2009space, hair\u200aspace, narrow\u202fspace, ogham\u1680space",
        "line\u2028separator paragraph\u2029separator next\u0085line",
        "zero\u200bwidth\u200bspace, word\u2060joiner, \ufeffbom",
        # Once a space to Unicode, no longer.
        "mongolian  \u180e  vowel \u180e\n separator   \u180e",
        "vertical\x0btab form\x0cfeed \x1c\x1d\x1e\x1f separators",
        "soh\x01byte and bell\x07 and escape\x1b[0m and delete\x7f",
        "It's what they're saying: I'm sure we've seen what he'd do, they'll say 'tis.",
        "IT'S WHAT THEY'RE SAYING: I'M SURE WE'VE SEEN WHAT HE'D DO, THEY'LL SAY 'TIS.",
        "'s't're've'm'll'd'x'S'T'RE'VE'M'LL'D'X",
        "rock'n'roll o'clock l'été d'accord dell'arte",
        "curly it\u2019s and they\u2019ll",
        # Under Unicode's simple case folding the long s is an s.
        "it'\u017f the long s; and 'r\u0065 'l\u006c",
        "''''s ''ll 's's's",
        "1", "12", "123", "1234", "12345", "123456", "1234567",
        "1234567 12 3456 7",
        "3.14159, 1,000,000.50, -42, +7, 1e-10, 0x1F, 2026-11-20T09:57:38Z",
        "a1b22c333d4444e55555",
        "\u00b2\u00b3\u00b9 \u00bd\u00bc\u00be \u2167 \u2460\u2461\u2462\u2463 \u0663\u0664\u0665\u0666 \u096a\u096b\u096c\u096d",
        "x\u00b2+y\u00b2=z\u00b2",
        "!?... --- *** ///// ((())) [[]] {} <> <<< >>> != == => -> :: ;;",
        "hello,world!foo?bar:baz;qux",
        "hello , world ! foo",
        "!!!\n\n???\r\n...\n",
        " !\n ?\n",
        "end.\nBegin.\n\n(paren)\n",
        "snake_case camelCase PascalCase kebab-case SCREAMING_CASE",
        "_leading __double trailing_ a_b_c",
        "int main(void)\n{\n    return printf(\"%s\\n\", argv[0]);\n}\n",
        "def f(x):\n\treturn x ** 2  # comment\n",
        "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\"}",
        "<html><body class=\"x\">&amp;</body></html>",
        "https://example.org/path?query=1&b=%20#fragment user@example.com",
        "$HOME ~/.config C:\\Windows\\System32",
        "The weights are loaded once and read often; the cache is written at every step.",
        "the the the the the the",
        "Die Größe der Gewichte übersteigt häufig den Speicher der Grafikkarte; ÄÖÜäöüß.",
        "Straßenbahn Straßenbahn Donaudampfschifffahrtsgesellschaft",
        "L'allocateur réserve la mémoire à l'avance, où qu'elle se trouve: ça marche très bien.",
        "El niño comió piñas ¿verdad? ¡Sí! El pingüino también.",
        "A memória é alocada; não há atenção, coração, ações.",
        "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy.",
        "Öküz, ığdır, İstanbul, şeker, çiçek, ğ.",
        "Η μνήμη δεν αρκεί ποτέ. Το μοντέλο διαβάζει τα βάρη. ΟΔΥΣΣΕΥΣ",
        "\u1f08\u03c1\u03c7\u1f74 \u1f25\u03bc\u03b9\u03c3\u03c5 \u03c0\u03b1\u03bd\u03c4\u03cc\u03c2",
        "Память быстра, но её мало. Веса лежат далеко. Съешь ещё этих мягких булок.",
        "хлебозавод и хлебозавод",
        "Пам'ять швидка, але її мало. Ґанок, їжак, єнот.",
        "内存总是不够用。模型的权重很大，激活值很小。",
        "漢字 漢字、漢字。",
        "記憶は足りない。カタカナとひらがなと漢字が混ざる。ﾊﾝｶｸ、１２３４５。",
        "메모리는 항상 부족하다. 가중치는 크고 활성값은 작다.",
        "\u1112\u1161\u11ab\u1100\u1173\u11af (decomposed Hangul)",
        "الذاكرة لا تكفي أبدا. الأوزان كبيرة، والتنشيطات صغيرة. ١٢٣٤٥",
        "السَّلَامُ عَلَيْكُمْ",
        "הזיכרון אף פעם לא מספיק. שָׁלוֹם",
        "स्मृति कभी पर्याप्त नहीं होती। भार बड़े हैं। क्षत्रिय ज्ञान",
        "মেমরি কখনো যথেষ্ট নয়। நினைவகம் போதாது. స్మృతి చాలదు.",
        "หน่วยความจำไม่เคยพอ น้ำหนักมีขนาดใหญ่",
        "Bộ nhớ không bao giờ đủ. Trọng số rất lớn. Tiếng Việt có dấu.",
        "მეხსიერება არასოდეს კმარა. Հիշողությունը երբեք չի բավարարում:",
        "\U0001f600\U0001f602\U0001f923 smile \u2764\ufe0f heart \U0001f44d\U0001f3fd thumbs",
        "family \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 flag \U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7 rainbow \U0001f3f3\ufe0f\u200d\U0001f308",
        "keycap 1\ufe0f\u20e3 2\ufe0f\u20e3 #\ufe0f\u20e3",
        "e\u0301 n\u0303 a\u030a o\u0308 combining; \u0301 alone; q\u0323\u0307",
        "Z\u0351\u036b\u0343a\u0322\u031bl\u0348\u0352g\u034bo\u0317\u030d",
        "\u00c5 \u212b A\u030a; \ufb01 \ufb02 ligatures; \u01c6 \u01f1",
        "\U0001d4d7\U0001d4ee\U0001d4f5\U0001d4f5\U0001d4f8 math \U00010348 gothic \U0002070e han extension",
        "\ue000\uf8ff private \U000f0000\U0010fffd planes",
        "\ufffd replacement \ufffe\uffff noncharacters \U0010ffff",
        "\u0378 unassigned \u2fe0",
        "\u200e\u200f\u202a\u202e\u2066\u2069 bidi marks",
        "\u20ac100 \u00a350 \u00a51000 \u20b9500 \u20bf1 10% 5\u2030 \u00b0C \u00b5m \u2126",
        "\u2200x\u2208\u211d: \u2211\u221a\u222b \u2260 \u2264 \u221e \u2192 \u21d2",
        "\u201cquoted\u201d \u2018single\u2019 \u00abguillemets\u00bb \u2013 en \u2014 em \u2026",
        "w" * 600,
        "incomprehensibilities" * 12,
        "0" * 50,
        " " * 70 + "x",
        "\n" * 40,
        "-" * 90,
        "\u00e9" * 33 + "\U0001f600" * 9,
        "zyzzyva zyzzyva quixotry quixotry\t\t\tx",
        "<|begin_of_text|>",
        "<|begin_of_text|>Hello<|end_of_text|>",
        "<|start_header_id|>user<|end_header_id|>\n\nHi there!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "a<|eot_id|>b <|eot_id|> c  <|eot_id|>  d",
        "<|eot_id|><|eot_id|><|eot_id",
        "<|<|eot_id|>|> <|eot_id |> <|EOT_ID|> <|eot_id|",
        "don<|eot_id|>'t 123<|eot_id|>456",
        "<|unknown_token|> <|reserved_special_token_0|> <|reserved_special_token_1|>",
    ]
    return texts


def tokenizer_train(texts):
    """A small BPE, trained on the texts themselves and data/corpus.txt."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1400,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def bytes_to_vocab(text):
    """The text as byte-level BPE writes it in a vocabulary (space is U+0120)."""
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(part for part, _ in level.pre_tokenize_str(text))


def post_processor_make(kind, bos_id):
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [
            {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 1}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {
            "<|begin_of_text|>": {
                "id": "<|begin_of_text|>",
                "ids": [bos_id],
                "tokens": ["<|begin_of_text|>"],
            }
        },
    }
    if kind == "template":
        return template
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": False,
        "use_regex": True,
    }
    return {"type": "Sequence", "processors": [byte_level, template]}


def tokenizer_json_make(trained, case):
    """tokenizer.json as Llama 3's is built: the special tokens follow the vocabulary."""
    root = json.loads(trained.to_str())
    vocab = root["model"]["vocab"]
    for word in WORDS_WITHOUT_MERGES:
        entry = bytes_to_vocab(word)
        if entry in vocab:
            sys.exit(f"{word!r} is reached by merges; choose a rarer word")
        vocab[entry] = len(vocab)
    root["added_tokens"] = [
        {
            "id": len(vocab) + index,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, content in enumerate(SPECIAL_TOKENS)
    ]
    root["post_processor"] = post_processor_make(case["post"], len(vocab))
    root["model"]["ignore_merges"] = case["ignore_merges"]
    if case["merges"] == "strings":
        root["model"]["merges"] = [" ".join(pair) for pair in root["model"]["merges"]]
    return root


def tokenizer_cases_make(tokenizer, texts):
    cases = []
    for text in texts:
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        # Byte-level BPE loses nothing; if this fails the tokenizer is not one.
        if tokenizer.decode(plain, skip_special_tokens=False) != text:
            sys.exit(f"{text!r} does not survive encoding and decoding")
        cases.append({"text": text, "ids": tokenizer.encode(text).ids, "ids_plain": plain})
    return cases


def tokenizers_make(out):
    from tokenizers import Tokenizer

    texts = tokenizer_texts()
    corpus = (out / "corpus.txt").read_text(encoding="utf-8").split("\n")
    rare = [word.strip() for word in WORDS_WITHOUT_MERGES if word.strip()]
    rare += ["<|", "\u180e"]
    learnt = [t for t in texts if not any(w in t for w in rare)]
    trained = tokenizer_train(learnt + corpus)
    answers = []
    for name, case in TOKENIZER_CASES.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        json_write(folder / "tokenizer.json", tokenizer_json_make(trained, case), indent=1)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        cases = tokenizer_cases_make(tokenizer, texts)
        lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
        (folder / "cases.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")
        answers.append([c["ids"] for c in cases])
        print(f"{name}: {tokenizer.get_vocab_size()} tokens, {len(cases)} texts")
    if answers[0] == answers[1]:
        sys.exit("ignore_merges makes no difference to any text")


def tokenizer_check(name, out):
    from tokenizers import Tokenizer

    folder = out / name
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    failures = 0
    for case in cases:
        plain = tokenizer.encode(case["text"], add_special_tokens=False).ids
        if plain != case["ids_plain"] or tokenizer.encode(case["text"]).ids != case["ids"]:
            print(f"{name}: {case['text']!r} gives {plain}; expected {case['ids_plain']}")
            failures += 1
    if not failures:
        print(f"{name}: {len(cases)} texts agree")
    return failures


def json_write(path, value, **options):
    text = json.dumps(value, ensure_ascii=False, **options)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
