"""The caption grammar: what a prompt can say, how a scene is put into words, and how a prompt is read back.

A scene ("spec") is {"background": name, "objects": [{"shape", "color", "size", "motion", "speed"}, ...]} with one
to three objects.  `caption` turns a spec into English, `parse` is its inverse for every caption it can write (the
scorer uses it to learn what a prompt asks for).  Nothing here needs torch.
"""
import random
import re

COLORS = {
    "red": (0.88, 0.12, 0.12), "orange": (0.98, 0.50, 0.08), "yellow": (0.98, 0.85, 0.12),
    "green": (0.12, 0.70, 0.22), "blue": (0.12, 0.32, 0.92), "purple": (0.52, 0.16, 0.80),
    "pink": (0.98, 0.42, 0.68), "white": (0.93, 0.93, 0.95), "turquoise": (0.08, 0.78, 0.78),
    "brown": (0.48, 0.27, 0.12),
}
SHAPES = ["ball", "cube", "triangle", "ring", "star"]
MOTIONS = ["bounce", "left", "right", "orbit", "swing", "spin", "pulse", "rise", "fall"]
BACKGROUNDS = ["night", "sea", "hills", "checker", "studio"]
SPEEDS = ["slow", "normal", "fast"]
MAX_OBJECTS = 3

# A word that stands several times in a list is drawn more often.
COLOR_WORDS = {
    "red": ["red", "red", "red", "crimson", "scarlet"], "orange": ["orange"],
    "yellow": ["yellow", "yellow", "golden", "gold"], "green": ["green"], "blue": ["blue"],
    "purple": ["purple", "purple", "violet"], "pink": ["pink", "pink", "rose"],
    "white": ["white", "white", "silver"], "turquoise": ["turquoise", "turquoise", "cyan", "teal"], "brown": ["brown"],
}
SHAPE_WORDS = {
    "ball": ["ball", "ball", "ball", "sphere", "beach ball"], "cube": ["cube", "cube", "box", "block", "square"],
    "triangle": ["triangle", "triangle", "pyramid"], "ring": ["ring", "ring", "donut", "hoop"], "star": ["star"],
}
PLURALS = {"box": "boxes"}
SIZE_WORDS = {"small": ["small", "small", "little", "tiny", "mini"], "medium": [""], "large": ["large", "large", "big", "huge", "giant"]}
SPEED_WORDS = {"slow": ["slowly", "slowly", "gently", "lazily"], "normal": [""], "fast": ["quickly", "quickly", "fast", "rapidly"]}
SPEED_ADJECTIVES = {"slow": ["slow"], "normal": [""], "fast": ["fast", "quick"]}
NUMBERS = {2: ["two", "two", "two", "2", "a pair of", "a couple of"], 3: ["three", "three", "three", "3"]}
ARTICLES = ["a", "a", "a", "the", "one"]
SINGLE_SHOW = ["shiny", "glossy", "bright"]
JOINERS = [" and ", " and ", " and ", ", ", " with ", " next to ", " beside ", " together with "]

# verb: (base, third person, participle, past)
VERBS = {v[0]: v for v in (
    ("bounce", "bounces", "bouncing", "bounced"), ("jump", "jumps", "jumping", "jumped"), ("hop", "hops", "hopping", "hopped"),
    ("drift", "drifts", "drifting", "drifted"), ("move", "moves", "moving", "moved"), ("fly", "flies", "flying", "flew"),
    ("float", "floats", "floating", "floated"), ("glide", "glides", "gliding", "glided"), ("travel", "travels", "traveling", "traveled"),
    ("orbit", "orbits", "orbiting", "orbited"), ("circle", "circles", "circling", "circled"), ("revolve", "revolves", "revolving", "revolved"),
    ("swing", "swings", "swinging", "swung"), ("sway", "sways", "swaying", "swayed"),
    ("spin", "spins", "spinning", "spun"), ("rotate", "rotates", "rotating", "rotated"), ("turn", "turns", "turning", "turned"),
    ("twirl", "twirls", "twirling", "twirled"), ("pulse", "pulses", "pulsing", "pulsed"), ("pulsate", "pulsates", "pulsating", "pulsated"),
    ("throb", "throbs", "throbbing", "throbbed"), ("grow", "grows", "growing", "grew"), ("shrink", "shrinks", "shrinking", "shrank"),
    ("rise", "rises", "rising", "rose"), ("ascend", "ascends", "ascending", "ascended"), ("climb", "climbs", "climbing", "climbed"),
    ("go", "goes", "going", "went"), ("fall", "falls", "falling", "fell"), ("drop", "drops", "dropping", "dropped"),
    ("descend", "descends", "descending", "descended"), ("sink", "sinks", "sinking", "sank"),
)}
BASE, THIRD, PARTICIPLE, PAST = range(4)
# motion: verb phrases; "{verb}" is put into the form that the sentence needs
MOTION_PHRASES = {
    "bounce": ["{bounce}", "{bounce}", "{bounce}", "{bounce}", "{bounce} up and down", "{jump}", "{jump} up and down", "{hop}"],
    "left": ["{drift} left", "{drift} to the left", "{move} left", "{move} to the left", "{fly} to the left", "{fly} left", "{float} to the left",
             "{glide} to the left", "{travel} left", "{move} from right to left"],
    "right": ["{drift} right", "{drift} to the right", "{move} right", "{move} to the right", "{fly} to the right", "{fly} right", "{float} to the right",
              "{glide} to the right", "{travel} right", "{move} from left to right"],
    "orbit": ["{orbit}", "{orbit}", "{circle}", "{circle}", "{orbit} in a circle", "{move} in a circle", "{fly} in circles", "{circle} around", "{revolve}"],
    "swing": ["{swing}", "{swing}", "{swing} on a string", "{swing} back and forth", "{swing} from side to side", "{sway} on a string"],
    "spin": ["{spin}", "{spin}", "{spin}", "{rotate}", "{turn}", "{spin} around", "{turn} around", "{twirl}"],
    "pulse": ["{pulse}", "{pulse}", "{pulsate}", "{grow} and {shrink}", "{throb}"],
    "rise": ["{rise}", "{rise}", "{float} up", "{fly} up", "{ascend}", "{climb}", "{move} up", "{go} up", "{float} upwards"],
    "fall": ["{fall}", "{fall}", "{fall} down", "{drop}", "{drop} down", "{descend}", "{sink}", "{move} down", "{go} down"],
}
BG_WORDS = {
    "night": ["under a night sky with twinkling stars", "under a starry night sky", "in the night sky", "at night under the stars",
              "in space with twinkling stars", "at night", "under a starry sky", "under the moon and stars", "in outer space", "under the stars"],
    "sea": ["over the sea at sunset", "over a sunset sea with moving waves", "above the ocean at sunset", "at sunset over the sea",
            "on the beach at sunset with waves", "over the sea", "over the ocean", "at sunset", "above the waves at sunset", "by the sea at sunset"],
    "hills": ["over green hills", "over green hills", "in front of green hills", "on green hills with a blue sky",
              "in a green landscape with hills and clouds", "in a meadow under a blue sky", "above green hills", "over the hills",
              "over grassy hills under a cloudy sky", "in a green field"],
    "checker": ["on a checkerboard floor", "over a checkerboard floor", "on a checkered floor", "above a chess board floor",
                "above a checkerboard floor", "on a checkerboard", "on a chessboard", "over a checkered floor"],
    "studio": ["in a plain studio", "on a plain background", "in a white studio", "in a simple bright room", "in a studio",
               "on a white background", "in front of a plain background", "in an empty room"],
}
PREFIXES = ["", "", "", "", "", "", "a video of ", "a beautiful animation of ", "an animated scene with ", "a minute long video of ", "a film of ",
            "a clip of ", "an animation of ", "a movie of ", "a short video of "]
# Words that only the first version of the grammar used, still drawn now and then.
EXTRA_ADJECTIVES = ["cute", "beautiful"]


def plural(noun):
    """The plural of a noun phrase ("beach ball" -> "beach balls")."""
    head, _, last = noun.rpartition(" ")
    last = PLURALS.get(last, last + "s")
    return f"{head} {last}".strip()


def conjugate(phrase, form):
    """A motion phrase with its verbs in one form: conjugate("{grow} and {shrink}", THIRD) -> "grows and shrinks"."""
    return re.sub(r"\{(\w+)\}", lambda m: VERBS[m.group(1)][form], phrase)


# ------------------------------------------------------------------------------------------------ spec -> caption
def _predicate(rng, o, count):
    """Verb with adverb for `count` subjects, e.g. "is slowly bouncing", "bounces", "that drifted to the left"."""
    style = rng.choices(["participle", "finite", "be", "relative", "past"], [0.56, 0.24, 0.09, 0.05, 0.06])[0]
    adverb = rng.choice(SPEED_WORDS[o["speed"]])
    finite = THIRD if count == 1 else BASE
    form = {"participle": PARTICIPLE, "be": PARTICIPLE, "finite": finite, "relative": finite, "past": PAST}[style]
    verb = conjugate(rng.choice(MOTION_PHRASES[o["motion"]]), form)
    text = f"{verb} {adverb}" if rng.random() < 0.6 else f"{adverb} {verb}"
    lead = {"be": "is " if count == 1 else "are ", "relative": "that "}.get(style, "")
    return lead + text.strip()


def _noun(rng, o, count, adjective=""):
    """Article or number, adjectives and the noun, e.g. "a large red ball", "two tiny blue stars"."""
    kind = rng.choice(SHAPE_WORDS[o["shape"]])
    words = [adjective, rng.choice(SINGLE_SHOW + EXTRA_ADJECTIVES) if rng.random() < 0.07 else "", rng.choice(SIZE_WORDS[o["size"]]),
             rng.choice(COLOR_WORDS[o["color"]]), plural(kind) if count > 1 else kind]
    text = " ".join(w for w in words if w)
    if count > 1:
        return rng.choice(NUMBERS[count]) + " " + text
    article = rng.choice(ARTICLES)
    return ("an" if article == "a" and text[0] in "aeiou" else article) + " " + text


def _clause(rng, o, count):
    """One object, or `count` equal ones, with its motion."""
    r = rng.random()
    if r < 0.08:                                                        # "a slowly bouncing red ball"
        simple = [p for p in MOTION_PHRASES[o["motion"]] if " " not in p] or MOTION_PHRASES[o["motion"]]
        verb = conjugate(rng.choice(simple), PARTICIPLE)
        return _noun(rng, o, count, f"{rng.choice(SPEED_WORDS[o['speed']])} {verb}".strip())
    if r < 0.13 and o["speed"] != "normal":                             # "a fast red ball bouncing"
        return _noun(rng, o, count, rng.choice(SPEED_ADJECTIVES[o["speed"]])) + " " + _predicate(rng, {**o, "speed": "normal"}, count)
    return _noun(rng, o, count) + " " + _predicate(rng, o, count)


def _body(rng, objects):
    if len(objects) > 1 and all(o == objects[0] for o in objects):
        return _clause(rng, objects[0], len(objects))
    if len(objects) == 3 and objects[0] == objects[1]:
        return _clause(rng, objects[0], 2) + rng.choice(JOINERS) + _clause(rng, objects[2], 1)
    same = len(objects) > 1 and all((o["motion"], o["speed"]) == (objects[0]["motion"], objects[0]["speed"]) for o in objects)
    if same and rng.random() < 0.6:                                     # "a red ball and a blue cube are bouncing"
        nouns = [_noun(rng, o, 1) for o in objects]
        return ", ".join(nouns[:-1]) + " and " + nouns[-1] + " " + _predicate(rng, objects[0], len(objects))
    parts = [_clause(rng, o, 1) for o in objects]
    if len(parts) == 3:
        return parts[0] + ", " + parts[1] + rng.choice([" and ", ", "]) + parts[2]
    return rng.choice(JOINERS).join(parts)


def caption(rng, spec):
    """One of many ways to say what a spec shows."""
    background = rng.choice(BG_WORDS[spec["background"]])
    prefix = rng.choice(PREFIXES)
    body = _body(rng, spec["objects"])
    text = f"{background}, {prefix}{body}" if rng.random() < 0.12 else prefix + body + rng.choice([" ", " ", " ", ", "]) + background
    if rng.random() < 0.08:
        text += "."
    return " ".join(text.split())


def sample_spec(rng, counts=(0.5, 0.3, 0.2)):
    """A random spec; a third of the scenes with several objects has equal ones, a fifth one common motion."""
    n = rng.choices([1, 2, 3], counts)[0]
    draw = lambda: {"shape": rng.choice(SHAPES), "color": rng.choice(list(COLORS)), "size": rng.choice(["small", "medium", "medium", "large"]),
                    "motion": rng.choice(MOTIONS), "speed": rng.choices(SPEEDS, [0.25, 0.5, 0.25])[0]}
    objects = [draw() for _ in range(n)]
    r = rng.random()
    if n > 1 and r < 0.33:
        same = 2 if n == 3 and rng.random() < 0.25 else n
        objects[:same] = [dict(objects[0]) for _ in range(same)]
    elif n > 1 and r < 0.53:
        objects = [{**o, "motion": objects[0]["motion"], "speed": objects[0]["speed"]} for o in objects]
    return {"background": rng.choice(BACKGROUNDS), "objects": objects}


def vocabulary():
    """Every word that a caption can contain, sorted."""
    words = set("a an the one and with next to that is are , .".split())
    for table in (COLOR_WORDS, SIZE_WORDS, SPEED_WORDS, SPEED_ADJECTIVES, BG_WORDS, NUMBERS):
        for phrases in table.values():
            words.update(w for p in phrases for w in p.split())
    for kinds in SHAPE_WORDS.values():
        words.update(w for k in kinds for w in (k + " " + plural(k)).split())
    for phrases in MOTION_PHRASES.values():
        words.update(w for p in phrases for form in range(4) for w in conjugate(p, form).split())
    for phrases in (PREFIXES, JOINERS, SINGLE_SHOW, EXTRA_ADJECTIVES):
        words.update(w for p in phrases for w in p.replace(",", " ").split())
    return sorted(words)


# ------------------------------------------------------------------------------------------------ caption -> spec
def _lookup(table, plurals=False):
    """[(words of the phrase, key)], longest phrase first."""
    rows = {}
    for key, phrases in table.items():
        for p in phrases:
            if p:
                rows[tuple(p.split())] = key
                if plurals:
                    rows[tuple(plural(p).split())] = key
    return sorted(rows.items(), key=lambda r: -len(r[0]))


_BG = _lookup(BG_WORDS)
_PREFIX = _lookup({"": [p.strip() for p in PREFIXES if p]})
_MOTION = [r for r in _lookup({m: [conjugate(p, f) for p in ps for f in range(4)] for m, ps in MOTION_PHRASES.items()}) if r[0] != ("rose",)]
_WORDS = {"shape": _lookup(SHAPE_WORDS, plurals=True), "color": _lookup(COLOR_WORDS), "size": _lookup({k: v for k, v in SIZE_WORDS.items() if v != [""]}),
          "speed": _lookup({k: SPEED_WORDS[k] + SPEED_ADJECTIVES[k] for k in ("slow", "fast")}), "count": _lookup(NUMBERS)}


def _replace(tokens, rows, tag):
    """Replace every phrase of `rows` by one (tag, key) token."""
    out, i = [], 0
    while i < len(tokens):
        hit = next(((len(p), key) for p, key in rows if tuple(tokens[i:i + len(p)]) == p), None)
        out.append((tag, hit[1]) if hit else tokens[i])
        i += hit[0] if hit else 1
    return out


def parse(prompt):
    """Read a prompt back into a spec.  Raises ValueError if it names no background, no known object or an object without
    colour or motion.  Sizes and speeds that are not said are "medium" and "normal"."""
    tokens = re.findall(r"\w+|[^\w\s]", prompt.lower())
    for rows, tag in ((_BG, "background"), (_PREFIX, "prefix"), (_MOTION, "motion"), *((_WORDS[k], k) for k in ("count", "shape", "color", "size", "speed"))):
        tokens = _replace(tokens, rows, tag)
    background = [t[1] for t in tokens if isinstance(t, tuple) and t[0] == "background"]
    if not background:
        raise ValueError(f"no known background in {prompt!r}")
    groups = []                                                        # one per article or number that leads to a noun
    for t in tokens:
        if t in ("a", "an", "the", "one") or (isinstance(t, tuple) and t[0] == "count"):
            groups.append({"count": t[1] if isinstance(t, tuple) else 1})
        elif isinstance(t, tuple) and t[0] in ("shape", "color", "size", "speed", "motion") and groups:
            if t == ("color", "pink") and "shape" in groups[-1]:         # "a rose cube" is a colour, "a cube rose" a motion
                t = ("motion", "rise")
            groups[-1].setdefault(t[0], t[1])
    groups = [g for g in groups if "shape" in g]
    motion = None
    for g in reversed(groups):                                         # "a ball and a cube are bouncing": the verb serves both
        motion = (g["motion"], g.get("speed", "normal")) if "motion" in g else motion
        if motion is None or "color" not in g:
            raise ValueError(f"an object without colour or motion in {prompt!r}")
        if "motion" not in g:
            g["motion"], g["speed"] = motion
    objects = [{"shape": g["shape"], "color": g["color"], "size": g.get("size", "medium"), "motion": g["motion"], "speed": g.get("speed", "normal")}
               for g in groups for _ in range(g["count"])]
    if not 1 <= len(objects) <= MAX_OBJECTS:
        raise ValueError(f"{len(objects)} objects in {prompt!r}; 1 to {MAX_OBJECTS} can be drawn")
    return {"background": background[0], "objects": objects}


if __name__ == "__main__":
    import sys
    rng = random.Random(0)
    wrong = 0
    for i in range(20000):
        spec = sample_spec(rng)
        text = caption(rng, spec)
        if i < 25:
            print(text)
        try:
            got = parse(text)
        except ValueError as err:
            got = str(err)
        if got != spec:
            wrong += 1
            if wrong < 6:
                print("WRONG", text, got, spec, sep="\n   ")
    print(f"{len(vocabulary())} words; {wrong} of 20000 captions read back wrongly")
    sys.exit(wrong > 0)
